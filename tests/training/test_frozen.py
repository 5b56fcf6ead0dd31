"""Training beside a bigram table of counts, which nothing changes and no checkpoint holds."""

import dataclasses
import functools
import shutil

import jax
import numpy as np
import pytest
from etils import epath
from jax.sharding import PartitionSpec
from orbax.checkpoint import PyTreeCheckpointHandler

from circuits_jax.config import MeshConfig
from circuits_jax.data.bigram import count_bigrams
from circuits_jax.model.parameters import frozen_shapes, merged, named, trained_part
from circuits_jax.model.transformer import Transformer, init_params
from circuits_jax.sparsity.optimizer import make_optimizer
from circuits_jax.storage.errors import CheckpointError, ConfigError, TrainingError
from circuits_jax.training.frozen import keep_frozen, read_frozen
from circuits_jax.training.layout import make_layout
from circuits_jax.training.loop import Trainer
from circuits_jax.training.metrics import read_metrics
from circuits_jax.training.pretraining import pretraining
from circuits_jax.training.state import make_init
from circuits_jax.training.step import model_loss
from tests.training import meshes
from tests.training.test_loop import breaking
from tests.training.tiny import assert_equal, replace, rows


def counted(config):
    """`config` with a table of counts, and without AbsTopK, which takes long to compile."""
    config = replace(config, "train", bigram_prior=20.0)
    return replace(config, "model", bigram="counts", activation_fraction=None)


def trainer(config, corpus, workdir):
    """As a run makes it."""
    config = replace(config, "data", hash=corpus.hash)
    return Trainer(pretraining(config, frozen=keep_frozen(config, workdir, corpus)), config, corpus, workdir)


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
    """(configuration, corpus, workdir, trainer, last state) of an uninterrupted run."""
    config, corpus, workdir = base
    own = tmp_path_factory.mktemp("counted") / "run"
    shutil.copytree(workdir, own)
    made = trainer(counted(config), corpus, own)
    return counted(config), corpus, own, made, made.run()


def test_the_table_stays_and_the_rest_learns(run):
    config, corpus, workdir, made, state = run
    table = count_bigrams(corpus.train.tokens, 300).logits(20.0)
    assert made._frozen["bigram"].tobytes() == table.tobytes()
    first = jax.device_get(jax.jit(make_init(config, make_optimizer(config)))().params)
    assert not [
        name for name, leaf in named(first).items() if np.array_equal(leaf, named(state.params)[name])
    ]
    found = read_metrics(workdir)
    assert found[-1]["loss"] < found[0]["loss"]
    params = merged(jax.device_get(state.params), {"bigram": table})
    loss = jax.jit(functools.partial(model_loss, Transformer(config.model)))
    losses = [float(loss(params, batch)) for batch in made._validation]
    assert found[-1]["validation_loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_neither_state_nor_checkpoints_hold_the_table(run):
    _, _, workdir, _, state = run
    tree = PyTreeCheckpointHandler().metadata(epath.Path(workdir / "checkpoints" / "12" / "state")).tree
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    names += [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    assert any("lm_head" in name for name in names) and not [name for name in names if "bigram" in name]


def test_a_stopped_run_goes_on_bit_for_bit(run, fresh):
    config, corpus, workdir = fresh
    config = counted(config)
    spoil = lambda state, metrics: (state, metrics | {"loss": np.float32(np.nan)})  # noqa: E731
    with pytest.raises(TrainingError, match=r"step 7; checkpoint 4 is intact"):
        breaking(trainer(config, corpus, workdir), 7, spoil).run()
    assert_equal(trainer(config, corpus, workdir).run(), run[4])
    assert rows(workdir) == rows(run[2])
    assert (workdir / "bigram.npz").read_bytes() == (run[2] / "bigram.npz").read_bytes()


def test_a_lost_file_is_counted_anew_and_another_one_refused(run, tmp_path):
    config, corpus, workdir, made, _ = run
    config = replace(config, "data", hash=corpus.hash)
    kept = read_frozen(config, workdir, corpus.tokenizer, lambda: pytest.fail("the file is there"))
    assert_equal(read_frozen(config, tmp_path, corpus.tokenizer, lambda: corpus), kept)
    assert not list(tmp_path.iterdir())  # readers change nothing
    assert_equal(keep_frozen(config, tmp_path, corpus), kept)
    other = dataclasses.replace(corpus, hash="0" * 16)
    with pytest.raises(CheckpointError, match=r"bigram.npz holds counts of another corpus"):
        keep_frozen(replace(config, "data", hash=other.hash), tmp_path, other)

    def lost():
        raise ConfigError("the corpus is gone too")

    (tmp_path / "bigram.npz").unlink()
    with pytest.raises(
        CheckpointError, match=r"bigram.npz, the counts of .* is gone.*the corpus is gone too"
    ):
        read_frozen(config, tmp_path, corpus.tokenizer, lost)


def test_a_program_without_its_counts_is_laid_out_and_not_run(base, tmp_path):
    config, corpus, _ = base
    program = pretraining(counted(config))
    assert make_layout(program, config).frozen["bigram"] is not None
    with pytest.raises(ConfigError, match="model.bigram 'counts' needs the counts of a corpus"):
        Trainer(program, counted(config), corpus, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["data", "2x4"])
def test_a_mesh_does_as_one_device(mesh):
    config = counted(meshes.config(steps=4))
    windows = meshes.batches(config, 4)
    alone, state = meshes.single(config, windows)
    losses, on_mesh = meshes.run(config, meshes.MESHES[mesh], windows)
    np.testing.assert_allclose(losses, alone, rtol=2e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), on_mesh.params, state.params)


def test_the_table_is_split_as_its_row_or_a_rule_says():
    config = counted(meshes.config())
    mesh = MeshConfig(data=1, fsdp=4, model=2)
    layout = make_layout(pretraining(config), dataclasses.replace(config, mesh=mesh))
    assert layout.frozen["bigram"].spec == PartitionSpec("fsdp", "model")
    mesh = dataclasses.replace(mesh, rules=("bigram = -",))
    layout = make_layout(pretraining(config), dataclasses.replace(config, mesh=mesh))
    assert layout.frozen["bigram"].spec == PartitionSpec(None)


def test_a_tree_in_its_parts(base):
    config = counted(base[0]).model
    params = init_params(config, jax.random.key(0))
    trained = trained_part(config, params)
    assert set(params) - set(trained) == {"bigram"} == set(frozen_shapes(config))
    assert_equal(merged(trained, {"bigram": params["bigram"]}), params)
    assert_equal(trained_part(dataclasses.replace(config, bigram="learned"), params), params)

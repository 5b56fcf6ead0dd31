"""Bridges as a program of the training loop: the optimizer, whole runs, and runs that go on."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from circuits_jax.bridges.losses import BridgeLoss
from circuits_jax.bridges.model import init_bridge, make_bridge
from circuits_jax.bridges.training import bridging, flops_per_token, make_bridge_optimizer, on_branch
from circuits_jax.config import MeshConfig, OptimizerConfig, SparsityConfig
from circuits_jax.data.corpus import prepare
from circuits_jax.model.model import Model
from circuits_jax.model.transformer import Transformer, init_params
from circuits_jax.storage.errors import BridgeError, TrainingError
from circuits_jax.training.layout import make_layout
from circuits_jax.training.loop import Trainer
from circuits_jax.training.metrics import read_metrics
from circuits_jax.training.workdir import claim
from tests.bridges.models import jit
from tests.training.tiny import CONFIG, assert_equal, replace, write_programs

RUN = replace(CONFIG, "train", steps=6, eval_batches=2, checkpoint_every=3, log_every=1)
RUN = replace(RUN, "optimizer", learning_rate=1e-2)
RUN = replace(RUN, "model", activation_locations=("resid_post_attn", "resid_post_mlp"))
DENSE = dataclasses.replace(RUN.model, d_model=16, d_mlp=32, activation_fraction=None)


@pytest.fixture(scope="module")
def dense():
    return Model(DENSE, jax.device_get(init_params(DENSE, jax.random.PRNGKey(3))))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A configuration, its corpus and its workdir."""
    folder = tmp_path_factory.mktemp("base")
    write_programs(folder / "tree")
    config = replace(RUN, "data", roots=(str(folder / "tree"),))
    corpus = prepare(config.data, config.model.vocab_size, config.model.n_ctx, folder / "run")
    claim(folder / "run", config)
    return config, corpus, folder / "run"


@pytest.fixture(scope="module")
def whole(base, dense, tmp_path_factory):
    """An uninterrupted coupled run: (its workdir, its trainer, its last state)."""
    config, corpus, workdir = base
    own = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(workdir, own)
    trainer = Trainer(bridging(config, dense), config, corpus, own)
    return own, trainer, trainer.run()


@pytest.mark.slow
def test_a_coupled_run_trains_both_and_ends_at_the_sparse_model_s_budget(whole, base, dense):
    workdir, trainer, state = whole
    rows = read_metrics(workdir)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    # Random bridges confuse the sparse model at first: these are the terms that learn at once.
    assert rows[-1]["nmse_decode"] < rows[0]["nmse_decode"] and rows[-1]["ce"] < rows[0]["ce"]
    assert trainer.step._cache_size() == 1
    terms = {"ce", "kl", "nmse_encode", "nmse_decode", "dense_to_sparse", "sparse_to_dense"}
    assert terms < set(rows[0])
    assert rows[0]["loss"] == pytest.approx(sum(rows[0][name] for name in terms), rel=1e-5)
    validated = {
        "validation_loss",
        "validation_kl",
        "validation_dense_to_sparse",
        "validation_sparse_to_dense",
    }
    assert validated < set(rows[-1]) and "l0" in rows[-1]
    kernel = np.asarray(state.params["sparse"]["h_0"]["mlp"]["c_proj"]["kernel"])
    assert np.count_nonzero(kernel) == kernel.size // 8
    for side in state.params["bridges"].values():
        assert np.count_nonzero(side["kernel"]) == side["kernel"].size


def test_the_validation_figures_are_those_of_the_loss(whole, base, dense):
    """Row by row and all at once give the same."""
    _, trainer, state = whole
    config, corpus, _ = base
    figures = trainer.evaluate(state.params)
    tokens = np.asarray(corpus.validation.tokens)
    rows = np.linspace(0, len(tokens) - 1, min(2, len(tokens) // 8) * 8).astype(int)  # as the loop takes them
    bridge = make_bridge(DENSE, config.model, config.bridge)
    loss = BridgeLoss(bridge, Transformer(DENSE), Transformer(config.model), config.bridge)
    terms = jit(loss.terms)(jax.device_get(state.params), tokens[rows], {"dense": dense.params})
    assert figures["validation_loss"] == pytest.approx(float(terms["ce"]), rel=1e-4)
    assert figures["validation_kl"] == pytest.approx(float(terms["kl"]), rel=1e-4)
    for name in ("dense_to_sparse", "sparse_to_dense"):
        assert 3 * figures[f"validation_{name}"] == pytest.approx(float(terms[name]), rel=1e-3)


@pytest.mark.slow
def test_a_stopped_run_goes_on_bit_for_bit(whole, base, dense, tmp_path):
    config, corpus, workdir = base
    shutil.copytree(workdir, tmp_path / "run")
    trainer = Trainer(bridging(config, dense), config, corpus, tmp_path / "run")
    step = trainer.step

    def broken(state, batch, frozen):
        number = int(state.step) + 1
        state, metrics = step(state, batch, frozen)
        return state, metrics | ({"loss": np.float32(np.nan)} if number == 5 else {})

    trainer.step = broken
    with pytest.raises(TrainingError, match="checkpoint 3 is intact"):
        trainer.run()
    state = Trainer(bridging(config, dense), config, corpus, tmp_path / "run").run()
    assert_equal(state, whole[2])


@pytest.mark.slow
def test_bridges_alone_leave_the_sparse_model_as_it_is(base, dense, tmp_path):
    config, corpus, workdir = base
    sparse = jax.device_get(init_params(config.model, jax.random.PRNGKey(5)))
    shutil.copytree(workdir, tmp_path / "run")
    trainer = Trainer(bridging(config, dense, Model(config.model, sparse)), config, corpus, tmp_path / "run")
    state = trainer.run()
    assert set(state.params) == {"bridges"}
    rows = read_metrics(tmp_path / "run")
    assert rows[-1]["nmse_encode"] < rows[0]["nmse_encode"]
    assert rows[-1]["nmse_decode"] < rows[0]["nmse_decode"]
    # The bigger the share of kept weights, the smaller the sharkfin's factor: nothing is thinned out here.
    rates = [row["learning_rate"] for row in rows]
    assert rates == sorted(rates, reverse=True)


def test_models_of_other_depths_are_refused_before_anything_is_trained(base):
    other = dataclasses.replace(DENSE, n_layer=2)
    with pytest.raises(BridgeError, match="2 layers"):
        bridging(base[0], Model(other, {}))


@pytest.mark.parametrize("mesh", [MeshConfig(data=2, fsdp=2, model=2), MeshConfig(data=1, fsdp=8)])
def test_everything_has_a_place_on_a_mesh(base, dense, mesh):
    config = dataclasses.replace(base[0], mesh=mesh)
    for sparse in (None, Model(config.model, init_params(config.model, jax.random.PRNGKey(0)))):
        layout = make_layout(bridging(config, dense, sparse), config)
        kernel = layout.state.params["bridges"]["encoder"]["kernel"]
        shape = (3, DENSE.d_model, config.model.d_model)
        parts = (3, shape[1] // mesh.fsdp, shape[2] // mesh.model)
        assert kernel.shard_shape(shape) == parts
        assert set(layout.frozen) == ({"dense"} if sparse is None else {"dense", "sparse"})


@pytest.mark.slow
def test_the_gradient_is_normalised_over_everything_and_the_projection_is_the_sparse_model_s():
    config = dataclasses.replace(
        RUN,
        optimizer=OptimizerConfig(learning_rate=1.0, warmup=0.0, weight_decay=0.0, sharkfin=False, eps=1e9),
        sparsity=SparsityConfig(target=1 / 4, anneal_start=0.0, anneal_end=0.0, floor=0),
    )
    bridge = make_bridge(DENSE, config.model, config.bridge)
    params = {
        "bridges": init_bridge(bridge, jax.random.PRNGKey(0)),
        "sparse": init_params(config.model, jax.random.PRNGKey(1)),
    }
    rng = np.random.default_rng(0)
    grads = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), params)
    grads["bridges"] = jax.tree.map(lambda leaf: 7 * leaf, grads["bridges"])
    optimizer = make_bridge_optimizer(config, config.sparsity)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    # With so large an eps Adam's first update is -gradient / eps: the joint rescaling can be read off it.
    leaves = jax.tree.leaves(grads)
    rms = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in leaves) / sum(leaf.size for leaf in leaves))
    kernel = np.asarray(updates["bridges"]["encoder"]["kernel"])
    np.testing.assert_allclose(kernel, -grads["bridges"]["encoder"]["kernel"] / rms / 1e9, rtol=1e-3)
    after = optax.apply_updates(params, updates)
    thinned = np.asarray(after["sparse"]["h_0"]["mlp"]["c_fc"]["kernel"])
    assert np.count_nonzero(thinned) == thinned.size // 4
    assert (
        np.count_nonzero(after["bridges"]["decoder"]["kernel"]) == after["bridges"]["decoder"]["kernel"].size
    )


def test_weight_decay_is_of_kernels_and_not_of_biases():
    config = replace(RUN, "optimizer", learning_rate=1.0, warmup=0.0, weight_decay=0.5, sharkfin=False)
    bridge = make_bridge(DENSE, config.model, config.bridge)
    params = {"bridges": jax.tree.map(jnp.ones_like, init_bridge(bridge, jax.random.PRNGKey(0)))}
    optimizer = make_bridge_optimizer(config, SparsityConfig(target=1.0))
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    np.testing.assert_allclose(updates["bridges"]["encoder"]["kernel"], -0.5)
    np.testing.assert_allclose(updates["bridges"]["encoder"]["bias"], 0)


def test_on_branch_passes_what_has_no_such_branch():
    negate = on_branch("sparse", optax.scale(-1.0))
    tree = {"bridges": jnp.ones(2), "sparse": jnp.ones(3)}
    updates, _ = negate.update(tree, negate.init(tree), tree)
    assert (updates["bridges"][0], updates["sparse"][0]) == (1, -1)
    alone = {"bridges": jnp.ones(2)}
    assert negate.update(alone, negate.init(alone), alone)[0] is alone


@pytest.mark.slow
def test_the_operations_of_a_step_are_those_the_compiler_counts():
    """Matrix products are nearly all of it, where vocabulary and width are not tiny."""
    big = dataclasses.replace(RUN.model, activation_fraction=None, d_model=64, d_mlp=256, vocab_size=512)
    config = dataclasses.replace(RUN, model=big)
    dense = dataclasses.replace(big, d_model=48, d_mlp=192)
    program = bridging(config, Model(dense, init_params(dense, jax.random.PRNGKey(0))))
    shapes = program.shapes()
    windows = jax.ShapeDtypeStruct((8, 17), jnp.int32)
    counted = jax.jit(program.step).lower(shapes, windows, program.frozen).compile().cost_analysis()["flops"]
    expected = flops_per_token(make_bridge(dense, big, config.bridge), coupled=True) * 8 * 16
    assert counted == pytest.approx(expected, rel=0.35)


def counted(config):
    """`config` with a sparse model whose bigram table is counted."""
    return replace(replace(config, "train", bigram_prior=20.0), "model", bigram="counts")


def test_a_table_of_counts_is_frozen_beside_the_dense_model(dense):
    """The terms and the gradient of all else are those of the same table among the parameters."""
    rng = np.random.default_rng(0)
    windows = rng.integers(0, 300, (2, 17))
    table = rng.normal(size=(300, 300)).astype(np.float32)
    program = bridging(counted(RUN), dense, frozen={"bigram": table})
    params = jax.jit(program.init)().params
    learned = dataclasses.replace(RUN.model, bigram="learned")
    bridge = make_bridge(DENSE, learned, RUN.bridge)
    loss = BridgeLoss(bridge, Transformer(DENSE), Transformer(learned), RUN.bridge)
    both = {**params, "sparse": {**params["sparse"], "bigram": table}}
    gradient = jit(jax.value_and_grad(lambda p, f: loss(p, windows, f)[0]))
    expected, whole = gradient(both, {"dense": dense.params})
    found, part = gradient(params, {"dense": dense.params, "sparse": {"bigram": table}})
    assert found == pytest.approx(float(expected), rel=1e-6)
    assert np.any(whole["sparse"].pop("bigram"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), part, dict(whole))
    assert set(program.frozen) == {"dense", "sparse"}
    layout = make_layout(bridging(counted(RUN), dense), counted(RUN))
    assert "bigram" not in layout.state.params["sparse"] and set(layout.frozen["sparse"]) == {"bigram"}

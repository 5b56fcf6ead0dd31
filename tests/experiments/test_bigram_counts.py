"""Runs whose bigram table is counted and not trained, opened, started from, published and pruned."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from circuits_jax import released
from circuits_jax.config import PruneConfig
from circuits_jax.data.bigram import count_bigrams
from circuits_jax.runs.opening import load, load_model
from circuits_jax.runs.training import pretrain, train
from circuits_jax.storage import notices
from circuits_jax.storage.errors import CheckpointError, ConfigError
from circuits_jax.tasks import load_task
from circuits_jax.training.frozen import keep_frozen
from circuits_jax.training.workdir import load_config
from tests.experiments.test_bridges import write_task
from tests.training.tiny import CONFIG, assert_equal, replace, write_programs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained run."""
    folder = tmp_path_factory.mktemp("counts")
    write_programs(folder / "tree")
    config = replace(CONFIG, "data", roots=(str(folder / "tree"),))
    config = replace(replace(config, "audit", pairs=16), "train", steps=6, bigram_prior=20.0)
    config = replace(config, "model", bigram="counts", n_ctx=32, activation_fraction=None)
    return train(config, folder / "run")


@pytest.fixture
def copy(run, tmp_path):
    """Its workdir, to be spoiled."""
    return shutil.copytree(run.folder, tmp_path / "copy")


def table(run):
    return count_bigrams(run.corpus.train.tokens, 300).logits(20.0)


def test_the_opened_model_is_the_trained_one_and_whole(run):
    opened = load(run.folder)
    assert opened.model.hash == run.model.hash and opened.model.config.bigram == "counts"
    assert_equal(opened.model.params, run.model.params)
    assert opened.model.params["bigram"].tobytes() == table(run).tobytes()
    tokens = run.corpus.validation.rows(slice(2))[:, :-1]
    logits, _ = opened.model(tokens)
    none = dataclasses.replace(opened.model.config, bigram="none")
    params = {name: leaf for name, leaf in opened.model.params.items() if name != "bigram"}
    without, _ = dataclasses.replace(opened.model, config=none, params=params)(tokens)
    np.testing.assert_allclose(logits, np.asarray(without) + table(run)[tokens], rtol=1e-5, atol=1e-5)


def test_a_run_without_its_file_opens_as_long_as_its_corpus_is_there(run, copy):
    (copy / "bigram.npz").unlink()
    assert load(copy).model.hash == run.model.hash
    assert not (copy / "bigram.npz").exists()
    assert any("bigram.npz is gone; the run's corpus was counted anew" in line for line in notices._LINES)
    shutil.rmtree(copy / "data")
    with pytest.raises(CheckpointError, match=r"bigram.npz.*is gone.*the corpus .* lies in none of") as told:
        load(copy)
    assert "\n" not in str(told.value)


def test_the_file_of_another_run_is_refused(run, copy, tmp_path):
    config = replace(run.whole_config, "train", bigram_prior=7.0)
    (copy / "bigram.npz").unlink()
    keep_frozen(config, copy, run.corpus)
    for use in (lambda: load(copy), lambda: pretrain(run.whole_config, copy)):
        with pytest.raises(CheckpointError, match=r"of another prior \(7.0\) than the run's \(20.0\)"):
            use()


def start(config, source, **model):
    """A run of one step from `source`, too small to move anything."""
    config = replace(config, "optimizer", learning_rate=1e-12, weight_decay=0.0)
    config = replace(config, "data", hash=None)
    return replace(replace(config, "model", **model), "train", steps=1, start_from=str(source))


@pytest.mark.slow
def test_a_learned_table_starts_from_counts_and_counts_replace_a_learned_one(run, tmp_path, capsys):
    learned, _ = pretrain(start(run.whole_config, run.folder, bigram="learned"), tmp_path / "learned")
    np.testing.assert_allclose(learned.params["bigram"], table(run), atol=1e-6)
    assert "model.bigram was counts, now learned" in capsys.readouterr().out
    state, _ = pretrain(start(run.whole_config, tmp_path / "learned", bigram="counts"), tmp_path / "back")
    assert "bigram" not in state.params
    told = capsys.readouterr().out
    assert "model.bigram was learned, now counts; its bigram table is left out, this run's" in told
    assert load_model(tmp_path / "back").params["bigram"].tobytes() == table(run).tobytes()
    with pytest.raises(CheckpointError, match=r"bigram is .* here.*--config\.model\.bigram=counts") as told:
        pretrain(start(run.whole_config, run.folder, bigram="none"), tmp_path / "none")
    assert "\n" not in str(told.value)


def test_another_table_is_another_run(run, copy):
    with pytest.raises(ConfigError, match=r"model\.bigram is 'counts' there, 'learned' here"):
        pretrain(replace(run.whole_config, "model", bigram="learned"), copy)
    with pytest.raises(ConfigError, match=r"model\.bigram is 'counts'.*train\.bigram_prior.*is None"):
        replace(run.whole_config, "train", bigram_prior=None)


@pytest.mark.parametrize("layout", ["bucket", "huggingface", "sparse"])
def test_published_with_its_table(run, tmp_path, layout):
    model = dataclasses.replace(run.model, config=dataclasses.replace(run.model.config, logits_bias=False))
    if layout == "sparse":
        folder = released.save_sparse(model.params, model.config, tmp_path / "model", model.tokenizer)
        assert json.loads((folder / "config.json").read_text())["model"]["bigram"] is True
    else:
        folder = released.export(model.params, model.config, tmp_path / "model", layout, model.tokenizer)
        name = "beeg_config.json" if layout == "bucket" else "config.json"
        values = json.loads((folder / name).read_text())
        assert (values["enable_bigram_table"], values["learnable_bigram_table"]) == (True, False)
    imported = load(released.as_workdir(folder, tmp_path / "run")).model
    assert imported.config.bigram == "learned"
    assert imported.params["bigram"].tobytes() == table(run).tobytes()
    if layout == "sparse":  # which leaves nothing out
        assert imported.hash == run.model.hash
    tokens = run.corpus.validation.rows(slice(2))[:, :-1]
    np.testing.assert_allclose(imported(tokens)[0], model(tokens)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("old", "today"), [(True, "learned"), (False, "none")])
def test_a_run_of_an_earlier_release_opens_as_what_it_is(run, tmp_path, old, today):
    config = dataclasses.replace(run.model.config, bigram=today)
    params = {name: leaf for name, leaf in run.model.params.items() if old or name != "bigram"}
    folder = released.save_sparse(params, config, tmp_path / "model", run.tokenizer)
    workdir = released.as_workdir(folder, tmp_path / "run")
    values = json.loads((workdir / "config.json").read_text())
    assert values["model"]["bigram"] == today
    values["model"]["bigram"] = old
    (workdir / "config.json").write_text(json.dumps(values))
    assert load_config(workdir).model == config
    assert load(workdir).model.hash == dataclasses.replace(run.model, config=config, params=params).hash
    assert not (workdir / "bigram.npz").exists()


@pytest.mark.slow
def test_pruned_audited_and_drawn(run, copy, tmp_path):
    write_task(tmp_path / "digits.jsonl")
    prune = PruneConfig(
        steps=10, batch_pairs=8, train_pairs=16, select_pairs=16, test_pairs=16, mean_batches=1, edge_steps=0
    )
    opened = load(copy)
    circuit = opened.prune(load_task(tmp_path / "digits.jsonl"), allow_unlearned=True, settings=prune)
    assert circuit.model_hash == run.model.hash
    assert opened.audit(circuit, controls="none").figures
    assert opened.page(circuit).path.stat().st_size > 10_000
    assert load(copy).circuits[0].model_hash == run.model.hash

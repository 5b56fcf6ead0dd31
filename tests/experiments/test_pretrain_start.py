"""Runs that start from the parameters of others: ours, dense ones, released ones."""

import dataclasses

import jax
import numpy as np
import pytest

from circuits_jax import released
from circuits_jax.data.corpus import prepare
from circuits_jax.data.tokenizers.bpe import train_sentencepiece
from circuits_jax.runs.opening import load_model
from circuits_jax.runs.starts import bring_tokenizer
from circuits_jax.runs.training import pretrain
from circuits_jax.storage.errors import CheckpointError, UserError
from tests.training.tiny import CONFIG, assert_equal, program, replace, write_programs


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """(configuration, workdir) of a finished dense run."""
    folder = tmp_path_factory.mktemp("dense")
    write_programs(folder / "tree")
    config = replace(CONFIG, "data", roots=(str(folder / "tree"),))
    config = replace(replace(config, "sparsity", target=1.0), "train", steps=6)
    pretrain(config, folder / "run")
    return config, folder / "run"


def still(config, source, **train):
    """A run of one step, too small to move anything, from `source`."""
    config = replace(config, "optimizer", learning_rate=1e-12, weight_decay=0.0)
    return replace(config, "train", steps=1, start_from=str(source), **train)


@pytest.mark.parametrize("source", ["https://host.invalid/model", "hf:owner/name", "memory://model"])
def test_what_is_no_workdir_is_loaded_as_released(monkeypatch, source):
    def load(name, strict):
        assert strict
        raise CheckpointError(f"asked for {name}")

    monkeypatch.setattr(released, "load_any", load)
    with pytest.raises(CheckpointError, match=f"asked for {source}"):
        load_model(source)


@pytest.mark.slow
def test_a_run_goes_on_from_another_with_fresh_schedules(dense, tmp_path):
    config, source = dense
    state, _ = pretrain(still(config, source), tmp_path / "run")
    assert int(state.step) == 1
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(load_model(source).params), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-7)
    assert (tmp_path / "run" / "tokenizer.model").read_bytes() == (source / "tokenizer.model").read_bytes()


@pytest.mark.slow
def test_a_dense_model_is_made_sparse_and_resumed_runs_do_not_start_again(dense, tmp_path):
    config, source = dense
    config = replace(replace(config, "sparsity", target=1 / 8), "train", start_from=str(source), steps=12)
    state, _ = pretrain(config, tmp_path / "run")
    kernel, before = (
        np.asarray(params["h_0"]["mlp"]["c_fc"]["kernel"])
        for params in (state.params, load_model(source).params)
    )
    assert np.count_nonzero(before) == before.size and np.count_nonzero(kernel) == kernel.size // 8
    (tmp_path / "gone").mkdir()
    again, _ = pretrain(config, tmp_path / "run")
    assert_equal(again, state)


@pytest.mark.slow
def test_a_released_checkpoint_is_a_start_with_its_own_tokenizer(dense, tmp_path):
    config, source = dense
    model = load_model(source)
    released.export(model.params, config.model, tmp_path / "released", tokenizer=model.tokenizer)
    with pytest.raises(CheckpointError, match=r"wpe.*absent here.*--config\.model\.position=add"):
        pretrain(still(config, tmp_path / "released"), tmp_path / "refused")
    assert not (tmp_path / "refused" / "config.json").exists()
    there = replace(still(config, tmp_path / "released"), "model", position="add", logits_bias=True)
    there = dataclasses.replace(there, model=released.load(tmp_path / "released").config)
    state, corpus = pretrain(there, tmp_path / "run")
    assert corpus.tokenizer.hash == model.tokenizer.hash
    np.testing.assert_allclose(
        state.params["lm_head"]["kernel"], model.params["lm_head"]["kernel"], rtol=0, atol=1e-7
    )


@pytest.mark.slow
def test_a_folder_in_the_sparse_format_is_a_start(dense, tmp_path):
    config, source = dense
    model = load_model(source)
    released.save_sparse(model.params, config.model, tmp_path / "small", model.tokenizer)
    start = load_model(str(tmp_path / "small"))
    assert start.config == config.model and start.tokenizer.hash == model.tokenizer.hash
    assert_equal(start.params, model.params)


def test_a_start_may_have_fewer_tokens_than_its_model_has_ids(dense, tmp_path):
    config, source = dense
    start = dataclasses.replace(load_model(str(source)), source="a padded model")
    for _ in range(2):  # a run that was killed early brings it again
        bring_tokenizer(start, tmp_path, 320)
        assert prepare(config.data, 320, config.model.n_ctx, tmp_path).tokenizer.vocab_size == 300


def test_a_start_of_another_shape_is_refused_with_the_way_out(dense, tmp_path):
    config, source = dense
    other = replace(still(config, source), "model", d_mlp=32, n_layer=2)
    with pytest.raises(CheckpointError, match=r"another model.*--config\.model\.n_layer=1.*d_mlp=64"):
        pretrain(other, tmp_path / "run")


def test_a_workdir_with_another_tokenizer_is_refused(dense, tmp_path):
    config, source = dense
    brought = train_sentencepiece([program(number) for number in range(500, 540)], 300, ())
    (tmp_path / "run").mkdir()
    brought.save(tmp_path / "run" / "tokenizer.model")
    with pytest.raises(CheckpointError, match="another tokenizer"):
        pretrain(still(config, source), tmp_path / "run")


def test_a_corpus_that_cannot_be_written_is_one_line(dense, tmp_path, monkeypatch):
    config, _ = dense
    (tmp_path / "data").write_text("no folder")
    with pytest.raises(UserError, match=rf"cannot be written to {tmp_path}.*make room"):
        pretrain(config, tmp_path)
    assert not (tmp_path / "config.json").exists()

    def failing(message):
        def prepare(*args, **named):
            raise RuntimeError(message)

        monkeypatch.setattr("circuits_jax.runs.corpora.prepare", prepare)

    failing("write() failed: No space left on device")  # array_record's
    with pytest.raises(UserError, match="No space left on device.*give the same command again"):
        pretrain(config, tmp_path / "run")
    failing("a defect")
    with pytest.raises(RuntimeError, match="a defect"):
        pretrain(config, tmp_path / "run")


@pytest.mark.parametrize("name", ["nowhere", "x" * 5000], ids=["nowhere", "too long a name"])
def test_a_start_that_is_not_there_is_named(dense, tmp_path, name):
    with pytest.raises(CheckpointError, match=name):
        pretrain(still(dense[0], tmp_path / name), tmp_path / "run")

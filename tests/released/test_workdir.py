"""Imported models as workdirs of ours."""

import contextlib
import json

import jax
import numpy as np
import pytest

from circuits_jax import released
from circuits_jax.config import DataConfig, ModelConfig
from circuits_jax.data.corpus import prepare
from circuits_jax.data.tokenizers.bpe import train_sentencepiece
from circuits_jax.data.tokenizers.tinypython import TinyPython
from circuits_jax.released import workdir
from circuits_jax.runs.opening import load_workdir
from circuits_jax.storage.errors import CheckpointError, ConfigError, UserError
from tests.data.tokenizers.test_tinypython import write_pair
from tests.released.models import assert_equal, random_params

CONFIG = ModelConfig(
    n_layer=1, d_model=8, n_ctx=16, vocab_size=300, d_head=4, n_head=2, d_mlp=32, position="add", bigram=False
)
CODE = "def f(x):\n    return x + 1\n" * 50


@pytest.fixture(scope="module")
def words():
    return train_sentencepiece([CODE], 285, ())


@pytest.mark.parametrize("layout", ["bucket", "huggingface", "sparse"])
def test_a_run_like_ours(layout, words, tmp_path):
    params = random_params(CONFIG)
    if layout == "sparse":
        source = released.save_sparse(params, CONFIG, tmp_path / "model", words)
    else:
        source = released.export(params, CONFIG, tmp_path / "model", layout, words)
    workdir = released.as_workdir(source, tmp_path / "run")
    run = load_workdir(workdir)
    model = run.model
    assert run.whole_config.model == model.config == CONFIG
    assert_equal(jax.tree.map(np.asarray, dict(model.params)), params)
    assert model.tokenizer.hash == words.hash
    assert json.loads((workdir / "imported.json").read_text())["source"] == str(source)


def test_a_workdir_that_cannot_be_written_is_found_out_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("circuits_jax.released.workdir.load_any", lambda *_: pytest.fail("it was loaded"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to .*file: Not a directory"):
        released.as_workdir("hf:owner/name", tmp_path / "file" / "deep" / "run")


def test_the_released_tokenizer(tmp_path):
    """Its two files may lie elsewhere, serve the corpus as they are, and have fewer tokens than the model."""
    pair = write_pair(tmp_path / "pair")
    words = TinyPython(pair)
    config = ModelConfig(n_layer=1, d_model=8, n_ctx=16, vocab_size=words.vocab_size + 5, d_head=4)
    source = released.export(random_params(config), config, tmp_path / "model")
    with pytest.raises(CheckpointError, match="no tokenizer lies in .*model; name a folder"):
        released.as_workdir(source, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    workdir = released.as_workdir(source, tmp_path / "run", pair)
    model = load_workdir(workdir).model
    assert isinstance(model.tokenizer, TinyPython) and model.tokenizer.hash == words.hash
    code = tmp_path / "code"
    code.mkdir()
    for n in range(40):
        (code / f"{n}.py").write_text(f"{CODE}y = {n}\n")
    data = DataConfig(roots=(str(code),), validation_fraction=0.3)
    corpus = prepare(data, config.vocab_size, config.n_ctx, workdir)
    assert corpus.tokenizer.hash == words.hash and not (workdir / "tokenizer.model").exists()
    text = words.decode(np.ravel(corpus.train.tokens).tolist())
    assert "def f(x):\n    return x + 1\n" in text
    with pytest.raises(ConfigError, match="pieces, but model.vocab_size is 30"):
        prepare(data, 30, config.n_ctx, workdir)


def test_a_sentencepiece_tokenizer_with_fewer_tokens_than_the_model(words, tmp_path):
    source = released.export(random_params(CONFIG), CONFIG, tmp_path / "model", tokenizer=words)
    workdir = released.as_workdir(source, tmp_path / "run")
    (tmp_path / "code").mkdir()
    for n in range(40):
        (tmp_path / "code" / f"{n}.py").write_text(f"{CODE}y = {n}\n")
    data = DataConfig(roots=(str(tmp_path / "code"),), validation_fraction=0.3)
    corpus = prepare(data, CONFIG.vocab_size, CONFIG.n_ctx, workdir)
    assert corpus.tokenizer.hash == words.hash


@pytest.mark.parametrize("last", ["save_released_tokenizer", "_save_checkpoint", "workdirs.claim"])
def test_an_import_that_was_killed_is_made_anew(last, words, tmp_path, monkeypatch):
    source = released.export(random_params(CONFIG), CONFIG, tmp_path / "model", tokenizer=words)
    (tmp_path / "run").mkdir()  # a killed process leaves it, where a failing one takes it away
    with monkeypatch.context() as context:
        context.setattr(f"circuits_jax.released.workdir.{last}", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            released.as_workdir(source, tmp_path / "run")
    assert (tmp_path / "run" / "imported.json").exists()
    model = load_workdir(released.as_workdir(source, tmp_path / "run")).model
    assert model.tokenizer.hash == words.hash


def test_the_run_of_a_process_that_was_faster_stays(tmp_path, monkeypatch):
    @contextlib.contextmanager
    def taken_late(folder):
        folder.mkdir()
        (folder / "config.json").write_text("{}")  # finished since it was seen that nothing was there
        yield

    monkeypatch.setattr(workdir, "locked", taken_late)
    with pytest.raises(CheckpointError, match="holds a run"):
        released.as_workdir(tmp_path / "model", tmp_path / "run")
    assert (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    ("begun", "of"),
    [("elsewhere", "an unfinished import of elsewhere"), (None, "a run that lost its config")],
)
def test_checkpoints_of_something_else_stay(begun, of, words, tmp_path):
    source = released.export(random_params(CONFIG), CONFIG, tmp_path / "model", tokenizer=words)
    (tmp_path / "run" / "checkpoints" / "1").mkdir(parents=True)
    if begun:
        (tmp_path / "run" / "imported.json").write_text(json.dumps({"source": begun}))
    with pytest.raises(CheckpointError, match=f"run has checkpoints of {of}.*move them away"):
        released.as_workdir(source, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "1").exists()


def test_a_tokenizer_that_is_gone_is_read_with_the_run_s_corpus(words, tmp_path):
    source = released.export(random_params(CONFIG), CONFIG, tmp_path / "model", tokenizer=words)
    workdir = released.as_workdir(source, tmp_path / "run")
    values = json.loads((workdir / "config.json").read_text())
    values["data"]["hash"] = "0" * 16
    (workdir / "config.json").write_text(json.dumps(values))
    folder = workdir / "data" / ("0" * 16)
    folder.mkdir(parents=True)
    with pytest.raises(ConfigError, match="tokenizer.model cannot be read .*the run's corpus has a copy"):
        (workdir / "tokenizer.model").rename(workdir / "elsewhere")
        load_workdir(workdir)
    (workdir / "elsewhere").rename(folder / "tokenizer.model")
    assert load_workdir(workdir).model.tokenizer.hash == words.hash


def test_a_folder_that_is_taken(words, tmp_path):
    source = released.export(random_params(CONFIG), CONFIG, tmp_path / "model", tokenizer=words)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds a run already"):
        released.as_workdir(source, tmp_path / "run")


def test_tokenizers_that_do_not_fit(words, tmp_path):
    source = released.export(random_params(CONFIG), CONFIG, tmp_path / "model")
    larger = train_sentencepiece([CODE + "".join(map(chr, range(300, 325)))], 310, ())
    folder = tmp_path / "words"
    larger.save(folder / "tokenizer.model")
    with pytest.raises(CheckpointError, match="310 tokens, the model 300"):
        released.as_workdir(source, tmp_path / "run", folder)

"""Corpora that an earlier release packed, as it left them: read without their sources, window for window."""

import hashlib
import json
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from circuits_jax.config import Config, from_dict
from circuits_jax.data.corpus import prepare
from circuits_jax.runs.corpora import open_corpus
from circuits_jax.storage.errors import ConfigError, CorpusError
from circuits_jax.training.workdir import load_config

RECORDED = Path(__file__).parents[1] / "testdata" / "earlier_corpora.zip"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Workdirs `plain`, and `mixed` with a quarter of generated programs, and what their windows were."""
    with zipfile.ZipFile(RECORDED) as archive:
        archive.extractall(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["plain", "mixed"])
def test_the_windows_are_those_that_were_packed(place: Path, name: str) -> None:
    truth = json.loads((place / "truth.json").read_text())[name]
    workdir = place / name
    corpus = open_corpus(load_config(workdir), workdir)
    for split in ("train", "validation"):
        windows, (digest, shape, counts) = getattr(corpus, split), truth[split]
        assert list(windows.tokens.shape) == shape and windows.counts == counts
        assert hashlib.sha256(np.asarray(windows.tokens, np.int32).tobytes()).hexdigest() == digest
    found = (corpus.files, corpus.bytes, corpus.tokens, corpus.skipped, corpus.tokenizer.hash)
    assert found == tuple(truth[key] for key in ("files", "bytes", "tokens", "skipped", "tokenizer"))
    assert load_config(workdir).data.hash == corpus.hash  # from now on its own
    shutil.rmtree(workdir / "data" / "windows")
    moved = workdir.rename(place / "moved")
    assert open_corpus(load_config(moved), moved).hash == corpus.hash


def test_what_is_missing_is_said(place: Path) -> None:
    workdir = place / "plain"
    shutil.rmtree(workdir / "data" / "windows")
    with pytest.raises(
        CorpusError, match="no corpus of its own.*data.roots names gone/tree, which is not a folder"
    ):
        open_corpus(load_config(workdir), workdir)


def test_sources_that_changed_are_not_taken_for_those_of_the_run(place: Path, tree: Path) -> None:
    workdir = place / "plain"
    shutil.rmtree(workdir / "data" / "windows")
    values = json.loads((workdir / "config.json").read_text())
    values["data"]["roots"] = [str(tree)]
    config = from_dict(Config, values)
    (workdir / "config.json").write_text(json.dumps(values))
    with pytest.raises(CorpusError, match="was trained on another corpus"):
        open_corpus(config, workdir)


def test_a_folder_that_no_run_holds_is_not_searched(place: Path) -> None:
    config = load_config(place / "plain")
    (place / "plain" / "config.json").unlink()
    with pytest.raises(ConfigError, match="gone/tree"):
        prepare(config.data, config.model.vocab_size, config.model.n_ctx, place / "plain")


def test_no_module_that_a_folder_names_is_imported(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TFDS would, of a folder's features.json; a shared workdir may hold any."""
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    (place / "mixed" / "evil.py").write_text("class Features:\n    pass\n")
    for path in (place / "mixed" / "data").glob("*/*/*/features.json"):
        path.write_text(json.dumps({"pythonClassName": "mixed.evil.Features", "content": "{}"}))
    workdir = place / "mixed"
    assert open_corpus(load_config(workdir), workdir).hash
    assert "mixed.evil" not in sys.modules


@pytest.mark.parametrize("settings", [{}, {"roots": ["data"]}, {"name": "x/generated_source"}])
def test_a_dataset_with_code_is_not_read_for_a_workdir_alone(
    place: Path, settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensorflow_datasets.builder", lambda *_, **__: pytest.fail("it was opened"))
    workdir = place / "plain"
    shutil.rmtree(workdir / "data" / "windows")
    values = json.loads((workdir / "config.json").read_text())
    values["data"] |= {"source": "tfds", "name": "generated_source"} | settings
    (workdir / "config.json").write_text(json.dumps(values))
    with pytest.raises(CorpusError, match="code that would run.*pretrain command again"):
        open_corpus(load_config(workdir), workdir)

"""Names that people give: every kind of name means the same everywhere."""

import json
import os
from pathlib import Path

import fsspec
import jax
import numpy as np
import pytest

from circuits_jax.circuits.circuit import load_circuit
from circuits_jax.config import DataConfig
from circuits_jax.configs.finding import config_file, load_config
from circuits_jax.data.sources.python_trees import list_files, source_config
from circuits_jax.data.sources.rows import read_jsonl, rows_config
from circuits_jax.data.store import find
from circuits_jax.released import load as load_released
from circuits_jax.storage.errors import CheckpointError, ConfigError
from circuits_jax.storage.paths import as_path, exists, is_remote, matching
from circuits_jax.tasks import load_task
from circuits_jax.training.checkpoints import Checkpoints, newest
from circuits_jax.viewer.circuit_page.annotations import read_annotations

VERSION_1 = Path(__file__).parents[1] / "testdata" / "circuit_v1"
NAMES = (
    "two words", "[1-9]", "a[b]c", "star*", "what?", "100%", "%20", "#1", "it's", 'say "hi"', "émigré", "🦒",
    "a:b", "a=b", "a,b", "$HOME", "a&b;c", "back\\slash", "{a,b}", "~", "-x", "file:name", "gs", "(1)", "a@b",
)  # fmt: skip
TASK = '{{"a": "x = (1", "b": "x = [1", "answer_a": ")", "answer_b": "]", "split": "{split}"}}\n'


@pytest.mark.parametrize("name", NAMES)
def test_a_name_means_itself_for_everything_that_is_read_and_written(name, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    assert as_path(f"{folder}/") == as_path(str(folder)) == as_path(folder) == folder

    circuit = load_circuit(VERSION_1)
    circuit.save(folder / "circuit")
    assert load_circuit(str(folder / "circuit")).nodes == circuit.nodes

    (folder / "mine.jsonl").write_text(TASK.format(split="train") + TASK.format(split="heldout"))
    assert load_task(str(folder / "mine.jsonl")).name == "mine"

    (folder / "mine.py").write_text("from circuits_jax.configs.quickstart import get_config\n")
    assert load_config(str(folder / "mine.py")) == load_config("quickstart")
    if ":" not in name:
        assert config_file(str(folder / "mine.py")) == str(folder / "mine.py")

    (folder / "notes.json").write_text('{"format": "circuits_jax.annotations", "version": 1, "circuits": {}}')
    assert read_annotations(str(folder / "notes.json")) == {}

    (folder / "rows.jsonl").write_text('{"text": "a"}\n')
    for pattern in ("rows.jsonl", "*.jsonl", "r?ws.jsonl", "[r]ows.jsonl", "**/rows.jsonl"):
        assert str(folder / "rows.jsonl") in matching(f"{folder}/{pattern}")
    assert list(list_files((str(folder),), ()))[0].path == str(folder / "mine.py")


@pytest.mark.parametrize("name", ("a[b]c", "100%# 🦒", "two words"))
def test_checkpoints_are_read_from_folders_of_any_name(name, tmp_path):
    checkpoints = Checkpoints(tmp_path / name, keep=1)
    checkpoints.save(3, {"a": jax.numpy.arange(4)})
    checkpoints.close()
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = {"a": jax.ShapeDtypeStruct((4,), np.int32, sharding=device)}
    assert newest(tmp_path / name) == 3
    for place in ("plain", f"{name} again"):
        moved = next(path for path in tmp_path.iterdir()).rename(tmp_path / place)
        assert Checkpoints(moved).restore(like)["a"].tolist() == [0, 1, 2, 3]


def test_home_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert as_path("~/x") == as_path(Path("~/x")) == tmp_path / "x"
    assert as_path("./~") == tmp_path / "~" and as_path("a/~") == tmp_path / "a" / "~"
    with pytest.raises(ConfigError, match="no such home folder"):
        as_path("~nobody-is-called-so/x")
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "a.py").write_text("a = 1\n")
    with pytest.raises(ConfigError, match="must lie on disk"):
        matching("gs://bucket/*.jsonl")
    assert matching("~/*.jsonl") == [str(tmp_path / "rows.jsonl")]
    assert f"under data.roots {tmp_path}" in source_config(DataConfig(roots=("~",))).what
    assert "1 files" in rows_config(DataConfig(source="jsonl", roots=("~/*.jsonl",)), read_jsonl).what


def test_a_path_stays_where_it_was_when_the_working_directory_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = as_path("runs/../runs/mine/")
    os.mkdir("runs")
    monkeypatch.chdir("runs")
    path.mkdir()
    assert (tmp_path / "runs" / "mine").is_dir() and as_path("mine").samefile(path)


def test_names_of_buckets(monkeypatch):
    monkeypatch.setattr(fsspec, "get_filesystem_class", lambda protocol: object)
    path = as_path("gs://bucket/run 1/")
    assert str(path) == os.fspath(path) == f"{path}" == "gs://bucket/run 1"
    assert is_remote(path) and is_remote(Path("gs://bucket/run")) and is_remote("s3://bucket/a")
    assert not is_remote(Path("gs/bucket")) and not is_remote("/tmp/gs:/x")
    assert as_path(Path("gs://bucket/run 1")) == as_path(path) == path
    assert str((path / "a" / "b.txt").parent) == "gs://bucket/run 1/a" and (path / "b.npy").stem == "b"
    assert str((path / "b.npy").with_suffix(".json")) == "gs://bucket/run 1/b.json"
    for name in ("gs://", "s3:///", "hf://a/b", "https://a/b"):
        with pytest.raises(ConfigError, match="names no bucket|cannot be used here"):
            as_path(name)


@pytest.mark.parametrize("scheme, extra", (("gs", "gcs"), ("s3", "s3")))
def test_a_missing_library_is_named_with_the_extra_that_brings_it(scheme, extra, monkeypatch):
    def missing(protocol):
        raise ImportError(f"Please install {protocol}fs")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(ConfigError, match=rf"pip install 'circuits_jax\[{extra}\]'"):
        as_path(f"{scheme}://bucket/run")


def test_names_that_no_file_can_have(tmp_path):
    with pytest.raises(ConfigError, match="zero byte"):
        as_path("a\0b")
    assert not exists(as_path(tmp_path / ("x" * 5000)))
    assert json.dumps(str(as_path(os.fsdecode(b"/tmp/\xff"))))
    with pytest.raises(ConfigError, match="data.roots names .*x, which is not a folder"):
        source_config(DataConfig(roots=("x" * 300,)))
    with pytest.raises(CheckpointError, match="does not exist"):
        load_released("x" * 300)
    assert find("x" * 300, [tmp_path]) is None

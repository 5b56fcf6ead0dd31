"""The builder keeps every byte, splits by content, skips what it cannot read, reuses only its own cache."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from circuits_jax.config import DataConfig
from circuits_jax.data.sources import build
from circuits_jax.data.sources.documents import split_of
from circuits_jax.data.sources.python_trees import source_config
from circuits_jax.storage.errors import ConfigError
from tests.data.conftest import FILES, program


def config(*roots: Path, **changes: object) -> DataConfig:
    return dataclasses.replace(DataConfig(roots=tuple(map(str, roots)), validation_fraction=0.25), **changes)


def examples(builder: object, split: str) -> dict[str, bytes]:
    """Path -> text of a split."""
    return {example["path"].decode(): example["text"] for example in builder.as_data_source(split)}


@pytest.fixture
def copy(tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tree, tmp_path / "copy"))


def test_every_file_is_in_exactly_one_split(tree: Path, tmp_path: Path) -> None:
    builder = build(config(tree), tmp_path)
    train, validation = examples(builder, "train"), examples(builder, "validation")
    assert len(train) + len(validation) == FILES and not train.keys() & validation.keys()
    found = {path.removeprefix("0/"): text for path, text in (train | validation).items()}
    assert found == {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*.py")}
    for example in builder.as_data_source("train"):
        assert example["sha256"].decode() == hashlib.sha256(example["text"]).hexdigest()


def test_bytes_come_back_as_they_were(copy: Path, tmp_path: Path) -> None:
    odd = {
        "crlf.py": b"a = 1\r\nb = 2\r\n",
        "bom.py": b"\xef\xbb\xbfa = 1\n",
        "form_feed.py": b"a = 1\n\x0c\n\tb\x00 = '\xc3\xa9'\r",
        "no_newline.py": b"pass",
        "empty.py": b"",
    }
    for name, data in odd.items():
        (copy / name).write_bytes(data)
    builder = build(config(copy), tmp_path)
    found = examples(builder, "train") | examples(builder, "validation")
    assert {name: found[f"0/{name}"] for name in odd} == odd


def test_what_cannot_be_read_is_skipped_and_counted(copy: Path, tmp_path: Path) -> None:
    (copy / "latin.py").write_bytes(b"name = '\xe9'\n")
    (copy / "dangling.py").symlink_to("nowhere")
    os.mkfifo(copy / "pipe.py")
    (copy / "folder.py").mkdir()
    (copy / "notes.txt").write_text("no Python")
    (copy / "again.py").symlink_to("program_03.py")
    (copy / os.fsdecode(b"odd_name_\xff.py")).write_text("x = 1\n")
    metadata = build(config(copy), tmp_path).info.metadata
    assert (metadata["skipped"], metadata["files"]) == (3, FILES + 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folders_and_files_without_permission_are_skipped(copy: Path, tmp_path: Path) -> None:
    (copy / "package").chmod(0)
    (copy / "program_05.py").chmod(0)
    metadata = build(config(copy), tmp_path).info.metadata
    (copy / "package").chmod(0o700)
    assert (metadata["skipped"], metadata["files"]) == (2, FILES - 3)


def test_excluded_folders_are_left_out_at_any_depth(copy: Path, tmp_path: Path) -> None:
    (copy / "package" / "deep" / "site-packages").mkdir(parents=True)
    (copy / "package" / "deep" / "site-packages" / "other.py").write_text("x = 1\n")
    assert build(config(copy), tmp_path).info.metadata["files"] == FILES
    metadata = build(config(copy, exclude=("package",)), tmp_path).info.metadata
    assert metadata["files"] == FILES - 2


def test_the_split_follows_the_content_alone(tree: Path, copy: Path, tmp_path: Path) -> None:
    before = examples(build(config(tree), tmp_path), "validation").values()
    for number in range(FILES, 2 * FILES):
        (copy / f"a_{number}.py").write_text(program(number))
    (copy / "program_04.py").rename(copy / "renamed.py")
    after = examples(build(config(copy), tmp_path), "validation").values()
    assert set(before) <= set(after)
    digests = [hashlib.sha256(bytes([i, j])).hexdigest() for i in range(64) for j in range(64)]
    assert 0.22 < sum(split_of(digest, 0.25) == "validation" for digest in digests) / 4096 < 0.28


def test_a_second_build_reads_the_cache_with_its_counts(copy: Path, tmp_path: Path) -> None:
    (copy / "latin.py").write_bytes(b"\xe9")
    first = build(config(copy), tmp_path)
    files = {path: path.stat().st_mtime_ns for path in Path(first.data_dir).iterdir()}
    second = build(config(copy), tmp_path)
    assert {path: path.stat().st_mtime_ns for path in Path(second.data_dir).iterdir()} == files
    assert dict(second.info.metadata) == dict(first.info.metadata)
    assert second.info.metadata["skipped"] == 1


def test_another_corpus_has_another_name(copy: Path, tmp_path: Path) -> None:
    names = [source_config(config(copy)).name, source_config(config(copy, validation_fraction=0.5)).name]
    names += [source_config(config(copy, exclude=("x",))).name, source_config(config(copy / "package")).name]
    names += [source_config(config(shutil.copytree(copy, tmp_path / "other"))).name]
    path = copy / "program_07.py"
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    names += [source_config(config(copy)).name]
    assert len(set(names)) == len(names)
    assert source_config(config(copy, copy)).name == names[-1]  # a root named twice adds nothing


def test_a_changed_file_is_read_again(copy: Path, tmp_path: Path) -> None:
    before = build(config(copy), tmp_path).info.metadata["content"]
    (copy / "program_07.py").write_text("changed = True\n")
    builder = build(config(copy), tmp_path)
    assert b"changed = True\n" in (examples(builder, "train") | examples(builder, "validation")).values()
    assert builder.info.metadata["content"] != before


def test_the_content_hash_knows_no_place(tree: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(tree, tmp_path / "other"))
    hashes = {build(config(root), tmp_path / "data").info.metadata["content"] for root in (tree, other)}
    assert len(hashes) == 1


def test_bad_corpora_are_refused_and_leave_nothing(copy: Path, tmp_path: Path) -> None:
    data, empty, latin = tmp_path / "data", tmp_path / "empty", tmp_path / "latin"
    empty.mkdir()
    latin.mkdir()
    (latin / "a.py").write_bytes(b"\xe9")
    for root, message in (
        (tmp_path / "missing", "not a folder"),
        (copy / "program_07.py", "not a folder"),
        (empty, "no Python file"),
        (latin, "none of the 1 Python files"),
    ):
        with pytest.raises(ConfigError, match=message) as error:
            build(config(root), data)
        assert str(root) in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=r"validation split is empty.*validation_fraction 1e-12"):
        build(config(copy, validation_fraction=1e-12), data)
    assert not list(data.rglob("*array_record*"))


@pytest.mark.parametrize("texts", [["x = 1\n"], ["x = 1\n"] * 3])
def test_one_document_is_told_to_be_too_few(tmp_path: Path, texts: list[str]) -> None:
    (tmp_path / "code").mkdir()
    for number, text in enumerate(texts):
        (tmp_path / "code" / f"{number}.py").write_text(text)
    with pytest.raises(ConfigError, match="give at least two different ones"):
        build(config(tmp_path / "code"), tmp_path / "data")


@pytest.mark.parametrize("fraction", [1e-9, 0.9999999])
@pytest.mark.parametrize("count", [2, 3, 20])
def test_the_fraction_that_is_named_splits(tmp_path: Path, fraction: float, count: int) -> None:
    (tmp_path / "code").mkdir()
    for number in range(count):
        (tmp_path / "code" / f"{number}.py").write_text(f"x = {number}\n")
    with pytest.raises(ConfigError, match="split is empty") as error:
        build(config(tmp_path / "code", validation_fraction=fraction), tmp_path / "data")
    named = float(re.search(r"set data\.validation_fraction=([0-9.]+),", str(error.value))[1])
    builder = build(config(tmp_path / "code", validation_fraction=named), tmp_path / "data")
    assert all(len(builder.as_data_source(split)) for split in ("train", "validation"))


def test_no_tensorflow_and_no_noise(tree: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from circuits_jax.config import DataConfig\n"
        "from circuits_jax.data import sources\n"
        "from circuits_jax.data.tokenizers import bpe\n"
        f"config = DataConfig(roots=({str(tree)!r},), validation_fraction=0.25)\n"
        f"builder = sources.build(config, {str(tmp_path)!r})\n"
        "texts = [example['text'].decode() for example in builder.as_data_source('train')]\n"
        "bpe.train_sentencepiece(texts, 320, config.symbols)\n"
        "import json; print(json.dumps([m for m in ('tensorflow', 'jax') if m in sys.modules]))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == []
    assert result.stderr == ""

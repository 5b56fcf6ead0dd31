"""A corpus is called by what it holds, read back whole or not at all, and found wherever it lies."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from circuits_jax.config import DataConfig
from circuits_jax.data import corpus as corpus_module
from circuits_jax.data import store
from circuits_jax.data.corpus import prepare
from circuits_jax.data.store import MANIFEST, find, link, look_up, read
from circuits_jax.storage.errors import ConfigError, CorpusError, UserError

VOCAB, N_CTX = 340, 15


@pytest.fixture(scope="module")
def config(tree: Path) -> DataConfig:
    return DataConfig(roots=(str(tree),), validation_fraction=0.25)


@pytest.fixture(scope="module")
def folder(config: DataConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a corpus."""
    workdir = tmp_path_factory.mktemp("run")
    return workdir / "data" / prepare(config, VOCAB, N_CTX, workdir).hash


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / folder.name))


def test_a_corpus_is_all_that_is_kept(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        *(MANIFEST, "tokenizer.model", "train.npy", "validation.npy")
    }
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, "tokenizer.json"}
    corpus = read(folder)
    assert corpus.hash == folder.name and corpus.train.tokens.dtype == np.uint16
    assert np.load(folder / "train.npy").nbytes == 2 * corpus.train.tokens.size


def test_the_name_follows_the_content_and_not_the_place(
    config: DataConfig, folder: Path, tree: Path, tmp_path: Path
) -> None:
    moved = DataConfig(roots=(str(shutil.copytree(tree, tmp_path / "moved")),), validation_fraction=0.25)
    assert prepare(moved, VOCAB, N_CTX, tmp_path / "run").hash == folder.name
    (tmp_path / "moved" / "program_07.py").write_text("changed = True\n")
    assert prepare(moved, VOCAB, N_CTX, tmp_path / "other").hash != folder.name


@pytest.mark.parametrize("name", ["train.npy", "validation.npy", "tokenizer.model", MANIFEST])
def test_damage_is_one_line_that_names_the_file(copy: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    half = len(content) // 2
    changed = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
    for damaged in (b"", content[:half], changed, None):
        if damaged is None:
            (copy / name).unlink()
        else:
            (copy / name).write_bytes(damaged)
        if name == MANIFEST and damaged == changed:
            continue  # a letter of a reason or an example may be another
        with pytest.raises(CorpusError) as caught:
            read(copy)
        assert str(copy) in str(caught.value) and "\n" not in str(caught.value)
        assert name in str(caught.value) and "copy the folder anew" in str(caught.value)


@pytest.mark.parametrize("name", ["train.npy", "validation.npy", "tokenizer.model", MANIFEST])
def test_a_git_lfs_pointer_is_told_once(copy: Path, name: str) -> None:
    (copy / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(UserError, match=rf"^\S*/{name} is a Git LFS pointer.*run git lfs pull") as caught:
        read(copy)
    assert str(caught.value).count("Git LFS pointer") == 1


def test_what_a_manifest_may_not_say_is_one_line(copy: Path) -> None:
    whole = json.loads((copy / MANIFEST).read_text())
    for changes in (
        {"version": 2},
        {"format": "x"},
        {"sha256": 3},
        {"counts": {}},
        {"files": None, "sha256": []},
    ):
        (copy / MANIFEST).write_text(json.dumps(whole | changes))
        with pytest.raises(CorpusError):
            read(copy)


def test_runs_share_a_store_and_nothing_is_made_twice(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = DataConfig(roots=config.roots, validation_fraction=0.25, store=str(tmp_path / "store"))
    first = prepare(shared, VOCAB, N_CTX, tmp_path / "first")
    monkeypatch.setattr(corpus_module, "pack", None)
    monkeypatch.setattr(corpus_module, "train_sentencepiece", None)
    second = prepare(shared, VOCAB, N_CTX, tmp_path / "second")
    assert first.hash == second.hash
    assert [path.name for path in (tmp_path / "store").iterdir()] == [first.hash]
    for run in ("first", "second"):
        assert (tmp_path / run / "tokenizer.model").exists()
        assert not (tmp_path / run / "data" / first.hash).exists()
    again = prepare(shared, VOCAB, N_CTX, tmp_path / "second")  # as a run that was killed before it began
    assert again.hash == first.hash


def test_another_setting_is_another_corpus_of_a_store(config: DataConfig, tmp_path: Path) -> None:
    shared = DataConfig(roots=config.roots, validation_fraction=0.25, store=str(tmp_path / "store"))
    made = [prepare(shared, VOCAB, N_CTX, tmp_path / "a"), prepare(shared, VOCAB, N_CTX + 1, tmp_path / "b")]
    made += [prepare(shared, VOCAB + 1, N_CTX, tmp_path / "c")]
    assert len({corpus.hash for corpus in made}) == 3 == len(list((tmp_path / "store").iterdir()))


def test_a_damaged_corpus_of_a_store_is_made_anew_by_a_run_that_makes_it(
    config: DataConfig, tmp_path: Path
) -> None:
    shared = DataConfig(roots=config.roots, validation_fraction=0.25, store=str(tmp_path / "store"))
    made = prepare(shared, VOCAB, N_CTX, tmp_path / "a")
    manifest = tmp_path / "store" / made.hash / MANIFEST
    manifest.unlink()
    assert prepare(shared, VOCAB, N_CTX, tmp_path / "b").hash == made.hash
    assert read(manifest.parent).hash == made.hash


def test_a_run_with_another_tokenizer_is_told(config: DataConfig, folder: Path, tmp_path: Path) -> None:
    other = DataConfig(roots=config.roots, validation_fraction=0.25, symbols=('"',))
    prepare(other, VOCAB, N_CTX, tmp_path)
    with pytest.raises(ConfigError, match="is not that of the run's corpus"):
        corpus_module.give_tokenizer(folder, read(folder), tmp_path)


def test_a_corpus_is_found_in_the_first_place_that_has_it(folder: Path, copy: Path, tmp_path: Path) -> None:
    places = [tmp_path / "nowhere", copy.parent, folder.parent]
    assert find(folder.name, places) == copy
    assert find("0" * 16, places) is None
    made_of = json.loads((folder / MANIFEST).read_text())["made_of"]
    assert look_up(made_of, copy.parent) == copy
    assert look_up({**made_of, "seed": 1}, copy.parent) is None


def test_a_linked_corpus_takes_no_room_and_outlives_the_first(copy: Path, tmp_path: Path) -> None:
    link(copy, tmp_path / "second")
    linked = tmp_path / "second" / copy.name
    assert (linked / "train.npy").stat().st_ino == (copy / "train.npy").stat().st_ino
    shutil.rmtree(copy)
    assert read(linked).hash == linked.name
    link(linked, tmp_path / "second")  # is there already


def test_a_corpus_moves_to_another_disk_whole(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store.os.replace

    def other_disk(source: Path, target: Path) -> None:
        if Path(source).name == "windows":
            raise OSError(18, "Invalid cross-device link")
        real(source, target)

    monkeypatch.setattr(store.os, "replace", other_disk)
    made = prepare(config, VOCAB, N_CTX, tmp_path)
    assert {path.name for path in (tmp_path / "data").iterdir()} == {made.hash, "tokenizer.json"}


def test_copies_made_at_once_by_processes_of_one_number_are_whole(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in two containers, on disks of their own: the second begins when the first has copied half."""
    copytree, replace = shutil.copytree, os.replace
    place, first, second = (tmp_path / name for name in ("place", "first", "second"))
    place.mkdir()
    for scratch in (first, second):
        copytree(copy, scratch)

    def interrupted(source: Path, target: Path) -> None:
        target.mkdir()
        shutil.copyfile(source / "train.npy", target / "train.npy")
        if source == first:
            store._move(second, place / copy.name)
            store.link(copy, place)
        copytree(source, target, dirs_exist_ok=True)

    def other_disk(source: Path, target: Path) -> None:
        if source.parent != target.parent:
            raise OSError("another disk")
        replace(source, target)

    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(os, "replace", other_disk)
    monkeypatch.setattr(shutil, "copytree", interrupted)
    store._move(first, place / copy.name)
    assert read(place / copy.name).hash == copy.name
    assert [path.name for path in place.iterdir()] == [copy.name]
    assert not first.exists() and not second.exists()


def test_a_link_that_another_run_was_faster_to_make_is_kept(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, copied = tmp_path / "place", list[Path]()

    def slow(source: Path, target: Path) -> None:
        copied.append(target)
        if len(copied) == 1:
            link(copy, place)
        raise OSError("no links")

    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(os, "link", slow)
    link(copy, place)
    assert read(place / copy.name).hash == copy.name
    assert [path.name for path in place.iterdir()] == [copy.name]

"""Nothing is left out in silence: every reason is counted, shown by examples, with a way in."""

import json
import os
import shutil
from pathlib import Path

import pytest

from circuits_jax.config import DataConfig
from circuits_jax.data.corpus import prepare
from circuits_jax.data.sources import build
from circuits_jax.storage import notices
from tests.data.conftest import FILES, program


@pytest.fixture(autouse=True)
def nothing_left_to_say():
    yield
    notices.tell()


@pytest.fixture
def copy(tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tree, tmp_path / "copy"))


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What stands on stderr when the command ends, without what was said before."""
    capsys.readouterr()
    notices.tell()
    return capsys.readouterr().err.splitlines()


def config(root: Path, **changes: object) -> DataConfig:
    return DataConfig(roots=(str(root),), validation_fraction=0.25, **changes)


def test_every_reason_of_a_tree_is_told(copy: Path, tmp_path: Path, capsys) -> None:
    (copy / "latin.py").write_bytes(b"name = '\xe9'\n")
    (copy / "dangling.py").symlink_to("nowhere")
    os.mkfifo(copy / "pipe.py")
    (copy / "tests").mkdir()
    (copy / "tests" / "a.py").write_text("x = 1\n")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "b.py").write_text("x = 1\n")
    (copy / "linked").symlink_to(tmp_path / "outside")
    (copy / "again").symlink_to(copy / "package")  # leads to what is there anyway
    prepare(config(copy), 340, 15, tmp_path / "run")
    lines = told(capsys)
    expected = {
        "not text in UTF-8": ("0/latin.py", "iconv"),
        "a link to nothing": ("0/dangling.py", "mend"),
        "no regular file": ("0/pipe.py", "copy"),
        "a folder of a name in data.exclude": ("0/tests", "data.exclude"),
        "a link to a folder, not entered": ("0/linked", "data.roots"),
    }
    skipped = [line for line in lines if line.startswith("skipped")]
    assert len(skipped) == len(expected)
    for reason, (name, way) in expected.items():
        (line,) = (line for line in skipped if f"skipped 1, {reason}: " in line)
        assert name in line and way in line.partition("to include it:")[2]
    manifest = next((tmp_path / "run" / "data").glob("*/corpus.json"))
    assert set(json.loads(manifest.read_text())["left_out"]) == set(expected)
    prepare(config(copy), 340, 15, tmp_path / "run")  # reads no source
    assert told(capsys) == []


def test_three_examples_are_enough(copy: Path, tmp_path: Path, capsys) -> None:
    for number in range(5):
        (copy / f"latin_{number}.py").write_bytes(b"\xe9")
    prepare(config(copy), 340, 15, tmp_path / "run")
    (line,) = (line for line in told(capsys) if line.startswith("skipped"))
    assert line.startswith("skipped 5, ") and "latin_2.py, ...;" in line and "latin_3.py" not in line


@pytest.mark.parametrize(("bad", "loud"), [(2, False), (4, True)])
def test_a_corpus_that_loses_more_than_a_tenth_warns_loudly(
    copy: Path, tmp_path: Path, capsys, bad: int, loud: bool
) -> None:
    for number in range(bad):
        (copy / f"latin_{number}.py").write_bytes(b"\xe9")
    capsys.readouterr()
    prepare(config(copy), 340, 15, tmp_path / "run")
    share = f"{bad / (FILES + bad):.0%}"
    assert (f"WARNING: the corpus lacks {share}" in capsys.readouterr().err) == loud
    assert any("WARNING" in line for line in told(capsys)) == loud


def test_one_large_file_is_much_too(copy: Path, tmp_path: Path, capsys) -> None:
    (copy / "large.py").write_bytes(b"\xe9" * 10**5)
    prepare(config(copy), 340, 15, tmp_path / "run")
    lines = told(capsys)
    assert any("WARNING: the corpus lacks 9" in line for line in lines), lines


def test_rows_without_text_and_duplicates_are_told(tmp_path: Path, capsys) -> None:
    rows = [{"text": program(number % 20)} for number in range(24)] + [{"text": None}, {"text": 7}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = config(tmp_path / "a.jsonl", source="jsonl", deduplicate=True)
    about = build(settings, tmp_path / "data").info.metadata
    assert (about["skipped"], about["duplicates"], about["files"]) == (2, 4, 20)
    prepare(settings, 340, 15, tmp_path / "run")
    lines = told(capsys)
    assert any("skipped 2, a row without text: 0/a.jsonl/24, 0/a.jsonl/25; " in line for line in lines)
    assert any("skipped 4, the same as an earlier one: " in line for line in lines)
    assert not any("WARNING" in line for line in lines)


def test_nothing_is_said_of_a_whole_corpus(tree: Path, tmp_path: Path, capsys) -> None:
    prepare(config(tree), 340, 15, tmp_path / "run")
    assert told(capsys) == []

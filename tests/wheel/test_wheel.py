"""A wheel built from the checkout, in an empty environment, outside the checkout: it is the whole library."""

import os
import pathlib
import subprocess
import sys
import venv
import zipfile

import pytest

from circuits_jax.data.programs.generator import corpus_words, generate_programs
from circuits_jax.data.programs.words import WORDS

ROOT = pathlib.Path(__file__).parents[2]


def listed_files() -> list[str]:
    """Files of the package that git does not ignore: what a clone of the repository would have."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "circuits_jax"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()


def build(folder: pathlib.Path) -> pathlib.Path:
    """The wheel of a copy of the checkout (building leaves files behind)."""
    copy = folder / "source"
    copy.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md"):
        (copy / name).write_bytes((ROOT / name).read_bytes())
    for path in (ROOT / name for name in listed_files()):
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(copy)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def corpus(folder: pathlib.Path) -> pathlib.Path:
    """A small tree of Python files."""
    words = [word for kinds in WORDS["train"].values() for word in kinds if word.islower()]
    heldout = "\n".join(
        f"{word} = {word}"
        for split in ("select", "test")
        for kinds in WORDS[split].values()
        for word in kinds
    )
    folder.mkdir()
    for number, text in enumerate(generate_programs(corpus_words(words), seed=0, count=60)):
        (folder / f"{number}.py").write_text(text + heldout + "\n" * number)
    return folder


@pytest.mark.slow
def test_a_wheel_trains_prunes_audits_and_draws(tmp_path):
    wheel = build(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "circuits_jax/py.typed" in names and "circuits_jax/viewer/page/template.html" in names
    assert "circuits_jax/configs/quickstart.py" in names and "circuits_jax/commands/prune.py" in names
    assert {name for name in listed_files() if name.startswith("circuits_jax/shipped/")} <= set(names)
    assert not [name for name in names if name.split("/")[0] in ("experiments", "tests", "launch")]
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", str(wheel)], check=True)
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    script = pathlib.Path(__file__).with_name("tiny_run.py").read_text()
    (tmp_path / "tiny_run.py").write_text(script)
    result = subprocess.run(
        [python, "tiny_run.py", str(corpus(tmp_path / "tree")), str(tmp_path / "run")],
        cwd=tmp_path,
        env=outside | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "the wheel works" in result.stdout

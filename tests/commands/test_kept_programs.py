import os
import subprocess
import sys

import jax
import pytest

from circuits_jax.commands import kept_programs
from circuits_jax.commands.kept_programs import keep_programs

SETTINGS = ("jax_compilation_cache_dir", "jax_compilation_cache_max_size")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """What JAX's setting is, not set at first and as it was afterwards; the user's cache is in `tmp_path`."""
    before = {name: jax.config.values[name] for name in SETTINGS}
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield lambda: jax.config.values["jax_compilation_cache_dir"]
    for name, value in before.items():
        jax.config.update(name, value)


def test_programs_lie_in_the_users_cache_and_are_bounded(tmp_path, place):
    keep_programs()
    assert os.path.dirname(place()) == str(tmp_path / "cache/circuits_jax/programs")
    assert jax.config.values["jax_compilation_cache_max_size"] == kept_programs.MOST_BYTES
    assert not list(tmp_path.iterdir())  # nothing is compiled yet


@pytest.mark.parametrize("given", ["", "not/absolute"])
def test_without_such_a_variable_it_is_in_the_home(tmp_path, place, monkeypatch, given):
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    monkeypatch.setenv("HOME", str(tmp_path))
    keep_programs()
    assert place().startswith(str(tmp_path / ".cache/circuits_jax"))


def test_what_jax_was_told_goes_before(place):
    jax.config.update("jax_compilation_cache_dir", "/elsewhere")
    keep_programs()
    assert place() == "/elsewhere"


def test_without_a_home_or_where_nothing_can_be_written_none_are_kept(tmp_path, place, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    keep_programs()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    monkeypatch.setattr(kept_programs.os, "access", lambda *_: False)
    keep_programs()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(kept_programs.Path, "home", lambda: (_ for _ in ()).throw(RuntimeError()))
    keep_programs()
    assert place() is None


def test_another_processor_has_a_folder_of_its_own(tmp_path):
    told = []
    for flags in ("flags : avx2", "flags : avx2 avx512f", "Features : asimd", ""):
        (tmp_path / "cpuinfo").write_text(f"model name : any\n{flags}\n")
        told.append(kept_programs._machine(tmp_path / "cpuinfo"))
    assert len(set(told)) == 4
    assert kept_programs._machine(tmp_path / "none") == told[-1]


# What a command begins with, and nearly nothing to compile.
PROCESS = """
from circuits_jax.commands.kept_programs import keep_programs
keep_programs()
import jax
jax.jit(lambda x: x + 1)(1)
"""


def test_a_second_process_takes_what_the_first_one_compiled(tmp_path):
    """Where JAX cannot keep programs it warns, and is heard here."""
    surroundings = {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name}
    surroundings |= {"XDG_CACHE_HOME": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}

    def programs():
        """{file of a program: when it was used last}."""
        told = subprocess.run([sys.executable, "-c", PROCESS], env=surroundings, capture_output=True)
        assert told.returncode == 0 and not told.stderr, told.stderr
        found = tmp_path.glob("circuits_jax/programs/*/*-cache")
        return {path.name: path.with_name(path.name[:-5] + "atime").read_bytes() for path in found}

    first, second = programs(), programs()
    assert first and first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first)

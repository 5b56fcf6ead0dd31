import os

import jax
import pytest

from circuits_jax.commands import kept_programs
from circuits_jax.commands.kept_programs import keep_programs


@pytest.fixture(autouse=True)
def setting():
    """JAX's own setting, not set at first and as it was afterwards."""
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    yield lambda: jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", before)


def test_programs_lie_in_the_run_and_nothing_is_written_before_there_are_any(tmp_path, setting):
    keep_programs(tmp_path, makes=False)
    assert os.path.dirname(setting()) == str(tmp_path / "programs")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("makes", [False, True])
def test_only_a_command_that_makes_the_folder_keeps_programs_in_one_that_is_not_there(
    tmp_path, setting, makes
):
    keep_programs(tmp_path / "run", makes)
    assert (setting() is not None) == makes


def test_what_jax_was_told_goes_before(tmp_path, setting):
    jax.config.update("jax_compilation_cache_dir", "/elsewhere")
    keep_programs(tmp_path, makes=True)
    assert setting() == "/elsewhere"


def test_a_bucket_a_file_and_what_cannot_be_written_are_left_alone(tmp_path, setting, monkeypatch):
    file = tmp_path / "file"
    file.write_text("")
    keep_programs(file, makes=True)
    monkeypatch.setattr(kept_programs.os, "access", lambda *_: False)
    keep_programs(tmp_path, makes=True)
    monkeypatch.setattr(kept_programs, "is_remote", lambda _: True)
    keep_programs(tmp_path / "run", makes=True)
    assert setting() is None


def test_another_processor_of_the_same_name_has_a_folder_of_its_own(tmp_path):
    told = []
    for flags in ("flags : avx2", "flags : avx2 avx512f", "Features : asimd", ""):
        (tmp_path / "cpuinfo").write_text(f"model name : any\n{flags}\n")
        told.append(kept_programs._machine(tmp_path / "cpuinfo"))
    assert len(set(told)) == 4
    assert kept_programs._machine(tmp_path / "none") == told[-1]

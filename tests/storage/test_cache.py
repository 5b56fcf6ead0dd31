"""A place for what can be fetched again, also where nobody has a home."""

import os
import tempfile

import pytest

from circuits_jax.data.local_copy import stand_in
from circuits_jax.released.download import download_folder
from circuits_jax.storage.buckets import BucketPath
from circuits_jax.storage.cache import cache_folder
from circuits_jax.storage.errors import UserError


@pytest.fixture
def homeless(tmp_path, monkeypatch):
    """No HOME, and a user that the system does not know; a folder for temporary files."""
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path / f"circuits_jax-{os.getuid()}"


def test_without_a_home_the_temporary_files_serve(homeless, tmp_path):
    assert cache_folder() == homeless
    assert stand_in(BucketPath("gs:/bucket/run")).parent == homeless
    with download_folder("https://example.org/file") as folder:
        assert homeless in folder.parents and folder.is_dir()
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    "given", ["~no_such_user/cache", "https://example.org", "gs://bucket", "/dev/null/x"]
)
def test_a_cache_that_is_no_folder_is_passed_over(homeless, monkeypatch, given):
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert cache_folder() == homeless


def test_the_users_own_comes_first(homeless, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "circuits_jax"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache" / "circuits_jax"
    assert stand_in(tmp_path) == tmp_path


def test_none_that_can_be_written_is_one_line(homeless, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/dev/null")
    with pytest.raises(UserError, match="set XDG_CACHE_HOME"):
        cache_folder()

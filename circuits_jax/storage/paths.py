"""Folders and files by name, on a disk or in a bucket."""

from pathlib import Path

import fsspec
from etils import epath

from circuits_jax.storage.errors import ConfigError

# Schemes of buckets that hold workdirs, with the extras that read them; other URLs are released checkpoints'.
BUCKETS = {"gs://": "gcs", "s3://": "s3"}


def as_path(name: str | Path) -> Path:
    """`name` as a path, through etils.epath where it is in a bucket.

    Raises:
      ConfigError: for another URL, which can hold no workdir; or without the library that reads the bucket.
    """
    if not isinstance(name, str):
        return name
    if not is_remote(name):
        return Path(name)
    scheme = next((scheme for scheme in BUCKETS if name.startswith(scheme)), None)
    if scheme is None:
        raise ConfigError(f"{name} cannot be a workdir; name a folder, or a bucket's: {', '.join(BUCKETS)}")
    try:
        fsspec.get_filesystem_class(scheme.removesuffix("://"))
    except ImportError as error:
        install = f"pip install 'circuits_jax[{BUCKETS[scheme]}]'"
        raise ConfigError(f"{name} needs a library for {scheme}; {install}") from error
    return epath.Path(name)


def is_remote(path: Path | str) -> bool:
    """Whether `path` is in a bucket rather than in a file system."""
    return "://" in str(path)


def exists(path: Path) -> bool:
    """Whether `path` is there and may be looked at: a name can also be too long, or a folder closed to us."""
    try:
        return path.exists()
    except OSError:
        return False

"""Folders and files by name, on a disk or in a bucket."""

from pathlib import Path

from etils import epath

from circuits_jax.storage.errors import ConfigError

# Schemes of buckets that hold workdirs; other URLs are those of released checkpoints.
BUCKETS = ("gs://", "s3://")


def as_path(name: str | Path) -> Path:
    """`name` as a path, through etils.epath where it is in a bucket.

    Raises:
      ConfigError: for another URL, which can hold no workdir.
    """
    if isinstance(name, str) and is_remote(name):
        if not name.startswith(BUCKETS):
            raise ConfigError(
                f"{name} cannot be a workdir; name a folder, or a bucket's: {', '.join(BUCKETS)}"
            )
        return epath.Path(name)
    return name if isinstance(name, Path) else Path(name)


def is_remote(path: Path | str) -> bool:
    """Whether `path` is in a bucket rather than in a file system."""
    return "://" in str(path)


def exists(path: Path) -> bool:
    """Whether `path` is there and may be looked at: a name can also be too long, or a folder closed to us."""
    try:
        return path.exists()
    except OSError:
        return False

"""Folders for libraries that write to disk alone."""

import tempfile
from pathlib import Path

from circuits_jax.storage.buckets import BucketPath
from circuits_jax.storage.paths import as_path


class Mirror:
    """A folder on disk for one in a bucket, which gets copies of its files; any other folder is itself.

    Attributes:
      path: Where to write.
    """

    def __init__(self, folder: Path):
        self._bucket = folder if isinstance(folder, BucketPath) else None
        self._disk = tempfile.TemporaryDirectory(prefix="circuits_jax-") if self._bucket else None
        self.path = folder if self._disk is None else as_path(self._disk.name)

    def copy(self) -> None:
        """Brings the bucket up to date."""
        if self._bucket is not None:
            self._bucket.upload(self.path)

    def close(self) -> None:
        """Brings the bucket up to date, and removes the folder that stood for it."""
        self.copy()
        if self._disk is not None:
            self._disk.cleanup()

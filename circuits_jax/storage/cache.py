"""Where files lie that can be fetched or made again."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from circuits_jax.storage.errors import ConfigError, UserError
from circuits_jax.storage.paths import as_path, is_remote


def cache_folder() -> Path:
    """A folder of ours in the user's cache, or where there is none to write to, among the temporary files.

    Raises:
      UserError: if none of them can be written.
    """
    for folder in _places():
        # Nobody's home may be known, and what is named may be no folder, or another person's.
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.access(folder, os.W_OK | os.X_OK):
                return folder
    raise UserError("no folder for a cache can be written; set XDG_CACHE_HOME to one")


def _places() -> Iterator[Path]:
    for name in (os.environ.get("XDG_CACHE_HOME"), "~/.cache"):
        with contextlib.suppress(ConfigError):
            if name and not is_remote(name):
                yield as_path(name) / "circuits_jax"
    with contextlib.suppress(OSError):
        yield as_path(tempfile.gettempdir()) / f"circuits_jax-{os.getuid()}"

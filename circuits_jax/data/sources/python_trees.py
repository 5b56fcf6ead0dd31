"""Trees of Python source as documents, without a network."""

import dataclasses
import os
import stat
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from circuits_jax.config import DataConfig
from circuits_jax.data.sources import documents
from circuits_jax.data.sources.documents import DocumentsConfig
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.lfs import is_pointer


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """One listed file.

    Attributes:
      path: Where it lies.
      name: Number of its root, then its path below that root; unique in a corpus and printable.
      size: Bytes, -1 if it cannot be told.
      mtime: Time of last change, ns.
    """

    path: str
    name: str
    size: int
    mtime: int


def source_config(config: DataConfig) -> DocumentsConfig:
    """Lists the files of `config` and names the corpus after them.

    Raises:
      ConfigError: if a root is no folder, or no Python file lies under the roots.
    """
    roots = _resolve(config.roots or (sysconfig.get_path("stdlib"),))
    files = tuple(list_files(roots, config.exclude))
    if not files:
        raise ConfigError(
            f"no Python file lies under data.roots {', '.join(roots)} (folders named "
            f"{', '.join(config.exclude)} are left out); name other folders"
        )
    identity = [roots, sorted(config.exclude), config.validation_fraction, config.deduplicate]
    identity += [[file.name, file.size, file.mtime] for file in files]

    def read() -> Iterator[tuple[str, bytes | None]]:
        return ((file.name, read_source(file.path)) for file in files)

    return documents.documents_config(
        identity, read, f"the {len(files)} Python files under data.roots {', '.join(roots)}", config
    )


def list_files(roots: Sequence[str], exclude: Sequence[str]) -> Iterator[SourceFile]:
    """Every `*.py` under `roots`, each once, in a fixed order; with folders that cannot be opened."""
    seen = set()
    for number, root in enumerate(roots):
        errors: list[OSError] = []
        paths = []
        for folder, folders, names in os.walk(root, onerror=errors.append):
            folders[:] = [name for name in folders if name not in exclude]
            paths += [os.path.join(folder, name) for name in names if name.endswith(".py")]
        for path in sorted(paths + [error.filename for error in errors]):
            real = os.path.realpath(path)
            if real not in seen:
                seen.add(real)
                yield _source_file(path, f"{number}/{os.path.relpath(path, root)}")


def read_source(path: str) -> bytes | None:
    """The bytes of a file of UTF-8, as they are, or None if it cannot be opened or decoded, or is not here
    (a Git LFS pointer)."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would block
            return None
        data = Path(path).read_bytes()
        data.decode()
    except (OSError, UnicodeDecodeError):
        return None
    return None if is_pointer(data) else data


def _source_file(path: str, name: str) -> SourceFile:
    printable = name.encode("utf-8", "backslashreplace").decode()  # names may hold bytes that are no text
    try:
        status = os.stat(path)
    except OSError:
        return SourceFile(path, printable, -1, 0)
    return SourceFile(path, printable, status.st_size, status.st_mtime_ns)


def _resolve(roots: Sequence[str]) -> tuple[str, ...]:
    """Absolute folders, each once, in the given order."""
    for root in roots:
        if not os.path.isdir(os.path.expanduser(root)):
            raise ConfigError(f"data.roots names {root}, which is not a folder; name folders that exist")
    return tuple(dict.fromkeys(os.path.realpath(os.path.expanduser(root)) for root in roots))

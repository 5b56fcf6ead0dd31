"""Trees of Python source as documents, without a network."""

import dataclasses
import os
import stat
import sysconfig
from collections.abc import Iterator, Sequence

from circuits_jax.config import DataConfig
from circuits_jax.data.sources import documents
from circuits_jax.data.sources.documents import DocumentsConfig
from circuits_jax.data.sources.left_out import (
    DEAD_LINK,
    EXCLUDED,
    LINKED_FOLDER,
    NOT_A_FILE,
    NOT_UTF8,
    POINTER,
    UNREADABLE,
    LeftOut,
)
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.lfs import is_pointer
from circuits_jax.storage.paths import as_path, is_folder, is_remote


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

    def read() -> Iterator[tuple[str, bytes | LeftOut]]:
        yield from ((file.name, read_source(file.path)) for file in files)
        yield from _folders_left_out(roots, config.exclude)

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


def read_source(path: str) -> bytes | LeftOut:
    """The bytes of a file of UTF-8, as they are, or why there are none."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):  # listed as one that cannot be entered
            return LeftOut(UNREADABLE)
        if not stat.S_ISREG(status.st_mode):  # a pipe would block
            return LeftOut(NOT_A_FILE)
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return LeftOut(DEAD_LINK if os.path.islink(path) and not os.path.exists(path) else UNREADABLE)
    try:
        data.decode()
    except UnicodeDecodeError:
        return LeftOut(NOT_UTF8, len(data))
    return LeftOut(POINTER, len(data)) if is_pointer(data) else data


def _folders_left_out(roots: Sequence[str], exclude: Sequence[str]) -> Iterator[tuple[str, LeftOut]]:
    """Folders below `roots` that were not looked into, but for links to what is under the roots anyway."""
    inside = [os.path.join(os.path.realpath(root), "") for root in roots]
    for number, root in enumerate(roots):
        for folder, folders, _ in os.walk(root):
            for name in sorted(folders):
                path = os.path.join(folder, name)
                shown = _printable(f"{number}/{os.path.relpath(path, root)}")
                if name in exclude:
                    yield shown, LeftOut(EXCLUDED)
                elif os.path.islink(path) and not _lies_in(path, inside):
                    yield shown, LeftOut(LINKED_FOLDER)
            folders[:] = [name for name in folders if name not in exclude]


def _lies_in(path: str, folders: Sequence[str]) -> bool:
    """Whether `path` leads into one of `folders`, whose names end with a separator."""
    return os.path.join(os.path.realpath(path), "").startswith(tuple(folders))


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()  # names may hold bytes that are no text


def _source_file(path: str, name: str) -> SourceFile:
    printable = _printable(name)
    try:
        status = os.stat(path)
    except OSError:
        return SourceFile(path, printable, -1, 0)
    return SourceFile(path, printable, status.st_size, status.st_mtime_ns)


def _resolve(roots: Sequence[str]) -> tuple[str, ...]:
    """Absolute folders, each once, in the given order."""
    for root in roots:
        if is_remote(root) or not is_folder(as_path(root)):
            raise ConfigError(f"data.roots names {root}, which is not a folder on disk; name one that is")
    return tuple(dict.fromkeys(os.path.realpath(as_path(root)) for root in roots))

"""Git LFS pointers: the few lines of text that lie in place of a large file until it is fetched."""

import contextlib
from pathlib import Path

from circuits_jax.storage.errors import CheckpointError, UserError

_START = b"version https://git-lfs.github.com/spec/"


class PointerError(CheckpointError):
    """A Git LFS pointer where a file of a run should be: nothing is damaged, and all of it can be fetched."""


def is_pointer(content: bytes) -> bool:
    """Whether a file that begins with `content` (or is all of it) is a pointer."""
    return content.startswith(_START)


def refuse_pointer(content: bytes, path: Path | str, kind: type[UserError] = PointerError) -> None:
    """Raises an error of that `kind` if what was read from `path` is a pointer."""
    if is_pointer(content):
        raise kind(
            f"{path} is a Git LFS pointer, not the file itself; run git lfs pull there, or download the file"
        )


def refuse_pointer_file(path: Path, kind: type[UserError] = PointerError, shown: str | None = None) -> None:
    """Raises an error of that `kind` if the file `path`, called `shown`, can be read and is a pointer."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        refuse_pointer(file.read(len(_START)), shown or path, kind)


def refuse_pointers_in(folder: Path, shown: str) -> None:
    """Raises PointerError if a file anywhere in `folder`, which the user calls `shown`, is a pointer."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            refuse_pointer_file(path, shown=f"{shown}/{path.relative_to(folder)}")

"""Git LFS pointers: the few lines of text that lie in place of a large file until it is fetched."""

from pathlib import Path

from circuits_jax.storage.errors import CheckpointError, UserError

_START = b"version https://git-lfs.github.com/spec/"


def is_pointer(content: bytes) -> bool:
    """Whether a file that begins with `content` (or is all of it) is a pointer."""
    return content.startswith(_START)


def refuse_pointer(content: bytes, path: Path | str, kind: type[UserError] = CheckpointError) -> None:
    """Raises an error of that `kind` if what was read from `path` is a pointer."""
    if is_pointer(content):
        raise kind(
            f"{path} is a Git LFS pointer, not the file itself; run git lfs pull there, or download the file"
        )

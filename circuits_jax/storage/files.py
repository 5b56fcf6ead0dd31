"""Files that are either whole or absent, in a local folder or in a bucket (`gs://...`)."""

import contextlib
import io
import json
import math
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from circuits_jax.storage.buckets import BucketPath
from circuits_jax.storage.errors import CheckpointError, UserError
from circuits_jax.storage.lfs import PointerError, refuse_pointer
from circuits_jax.storage.paths import as_path, is_remote

_TRIAL_BYTES = 1 << 16


def aside_of(path: Path) -> Path:
    """A new name beside `path`, for what becomes `path` when it is whole.

    Drawn, since processes of two containers may have the same number; short, since a name may be as long as a
    disk allows.
    """
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}")


@contextlib.contextmanager
def write_aside(path: Path) -> Iterator[BinaryIO]:
    """Opens a binary file that becomes `path` only when the block ends without an error."""
    if is_remote(path):  # an object of a bucket appears whole or not at all, and cannot be renamed
        content = io.BytesIO()
        yield content
        path.write_bytes(content.getvalue())
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = aside_of(path)
    try:
        with open(aside, "wb") as file:
            yield file
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def check_writable(folder: Path, way_out: str = "or copy the run to a folder of yours") -> None:
    """Finds out, before any work, whether files can be made in a folder and filled; makes it if need be.

    Raises:
      UserError: if not, such as on a full disk, in another person's folder or on a read-only one.
    """
    trial = folder / f".trial-{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if is_remote(folder):
            return
        try:
            with open(trial, "wb") as file:
                file.write(bytes(_TRIAL_BYTES))
                file.flush()
                os.fsync(file.fileno())  # a quota may show only here
        finally:
            trial.unlink(missing_ok=True)
    except OSError as error:
        in_the_way = folder
        if isinstance(error, NotADirectoryError | FileExistsError):
            in_the_way = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
        raise UserError(
            f"cannot write to {in_the_way}: {error.strerror or error}; make it writable, or make room, "
            f"{way_out}"
        ) from error


@contextlib.contextmanager
def at_hand(path: Path) -> Iterator[Path]:
    """`path`, or a copy on disk, for the length of the block, of an object of a bucket.

    For readers that map a file, or leave it to a library that opens files by their names.
    """
    if not isinstance(path, BucketPath):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="circuits_jax-") as folder:
        copy = as_path(folder) / path.name
        path.get(copy)
        yield copy


def write_json(path: Path, values: Any) -> None:
    """Writes `values` as indented JSON, whole or not at all; numbers that are not finite as null."""
    text = json.dumps(_finite(values), indent=1, allow_nan=False)
    with write_aside(path) as file:
        file.write(text.encode() + b"\n")


def _finite(value: Any) -> Any:
    """`value` without the numbers that JSON has no word for."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_bytes(path: Path) -> bytes:
    """The content of `path`.

    Raises:
      CheckpointError: if it is missing, unreadable, empty or a Git LFS pointer.
    """
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # the latter for a name with a null byte
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path} cannot be read: {reason}") from error
    if not content:
        raise CheckpointError(f"{path} is empty (0 bytes); download or export it again")
    refuse_pointer(content, path)
    return content


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
      CheckpointError: if the file cannot be read or holds no JSON object.
    """
    content = read_bytes(path)
    try:
        values = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a JSON {type(values).__name__}; it must hold an object")
    return values


def read_json_if_any(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; an empty one if there is none that can be read.

    Raises:
      PointerError: if it is a Git LFS pointer, in whose place nothing may be written.
    """
    try:
        return read_json(path)
    except PointerError:
        raise
    except UserError:
        return {}

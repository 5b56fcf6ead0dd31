"""Small files read, with the one error of this package."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from circuits_jax.errors import CheckpointError

_LISTED = 6


def listed(names: Collection[str]) -> str:
    """The first few of `names`, in one line, and how many more there are."""
    shown = ", ".join(name if name.isprintable() else repr(name) for name in list(names)[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"


def read_bytes(path: Path) -> bytes:
    """The content of `path`.

    Raises:
      CheckpointError: if it is missing, unreadable or empty.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    if not content:
        raise CheckpointError(f"{path} is empty (0 bytes); download or export it again")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
      CheckpointError: if the file cannot be read or holds no JSON object.
    """
    try:
        values = json.loads(read_bytes(path).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a JSON {type(values).__name__}; it must hold an object")
    return values

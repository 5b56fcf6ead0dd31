"""What was read from files, in error messages and in JSON."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from circuits_jax.storage.errors import CheckpointError

_LISTED = 6
_MOST_VALUES = 10_000


def listed(names: Collection[str]) -> str:
    """The first few of `names`, in one line, and how many more there are."""
    shown = ", ".join(name if name.isprintable() else repr(name) for name in list(names)[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"


def as_json(value: Any) -> Any:
    """`value` (containers, numbers, text, arrays) as JSON has it.

    Raises:
      CheckpointError: if it holds more than 10,000 values; a small file can describe containers that hold one
        another, or themselves.
    """
    left = _MOST_VALUES

    def convert(value: Any) -> Any:
        nonlocal left
        left -= value.size if isinstance(value, np.ndarray) else 1
        if left < 0:
            raise CheckpointError(f"a setting holds more than {_MOST_VALUES} values")
        if isinstance(value, Mapping):
            return {str(key): convert(each) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [convert(each) for each in value]
        if isinstance(value, np.ndarray):
            return convert(value.tolist()) if value.ndim else plain(value.item())
        return plain(value)

    return convert(value)


def plain(value: Any) -> Any:
    """A single value as JSON has it: null for numbers that are not finite, text for what it has no word."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def sketch(value: Any) -> Any:
    """`value` as JSON has it, or if it is too large for that, in words."""
    try:
        return as_json(value)
    except CheckpointError:
        if isinstance(value, np.ndarray):
            return f"an array of {value.dtype} {list(value.shape)}"
        return f"a {type(value).__name__} of {len(value)}"

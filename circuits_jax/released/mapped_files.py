"""Files mapped into memory, so that of a tensor only what is needed is read, when it is needed."""

import json
import mmap
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from circuits_jax.storage.errors import CheckpointError
from circuits_jax.storage.files import at_hand
from circuits_jax.storage.lfs import refuse_pointer

_SAFETENSORS_TYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
_SAFETENSORS_ERRORS = (
    safetensors.SafetensorError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
)


def map_file(path: Path) -> mmap.mmap:
    """The bytes of `path`, read from disk when they are looked at.

    Raises:
      CheckpointError: if it is missing, unreadable, empty or a Git LFS pointer.
    """
    try:
        with at_hand(path) as here, here.open("rb") as file:
            if not file.seek(0, 2):
                raise CheckpointError(f"{path} is empty (0 bytes); download or export it again")
            file.seek(0)
            refuse_pointer(file.read(64), path)
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except CheckpointError:
        raise
    except (OSError, ValueError) as error:  # the latter for a name with a null byte
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path} cannot be read: {reason}") from error


def forget_pages(array: np.ndarray) -> None:
    """Gives back the memory that reading `array`, a view of a mapped file, took; it can be read again."""
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file, as views of the mapped file (bfloat16 by ml_dtypes).

    Raises:
      CheckpointError: if the file is empty, truncated or damaged, or holds a type that numpy has not.
    """
    mapping = map_file(path)
    try:
        with at_hand(path) as here, safetensors.safe_open(here, framework="np"):  # checks header and size
            length = int.from_bytes(mapping[:8], "little")
            header = json.loads(mapping[8 : 8 + length])
            header.pop("__metadata__", None)
            return {name: _view(mapping, 8 + length, name, entry) for name, entry in header.items()}
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except _SAFETENSORS_ERRORS as error:
        raise CheckpointError(
            f"{path} is no readable safetensors file ({error}); download or export it again"
        ) from error


def _view(mapping: mmap.mmap, start: int, name: str, entry: dict[str, Any]) -> np.ndarray:
    """One tensor, of which the header says type, shape and place after `start`."""
    dtype = _SAFETENSORS_TYPES.get(entry["dtype"])
    if dtype is None:
        raise CheckpointError(
            f"{name} is of type {entry['dtype']}; this library reads {', '.join(_SAFETENSORS_TYPES)}"
        )
    begin, end = entry["data_offsets"]
    flat = np.frombuffer(mapping, np.uint8, end - begin, start + begin)
    return flat.view(dtype).reshape(entry["shape"])

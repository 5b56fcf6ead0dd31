"""Writes `.pt` files that PyTorch reads, without PyTorch (the layout is told in `torch_file`)."""

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from circuits_jax.errors import CheckpointError
from circuits_jax.files import write_aside
from circuits_jax.released.torch_file import STORAGES

_ALIGNMENT = 64  # of each storage in the file, so that it can be mapped into memory
_LOCAL_HEADER = 30
_TYPES = {dtype: name for name, dtype in STORAGES.items()}


def write_torch_file(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes named tensors as `torch.save` writes a dict of CPU tensors.

    Args:
      path: The file; written aside, then renamed.
      tensors: Arrays of a type in `torch_file.STORAGES`.  An array listed under two names is stored once.

    Raises:
      CheckpointError: if an array is of a type that PyTorch has not.
    """
    storages: dict[int, int] = {}
    arrays: list[np.ndarray] = []
    entries = []
    for name, tensor in tensors.items():
        if tensor.dtype not in _TYPES:
            raise CheckpointError(f"{name} is {tensor.dtype}; a .pt file holds {', '.join(map(str, _TYPES))}")
        if id(tensor) not in storages:
            storages[id(tensor)] = len(arrays)
            arrays.append(np.ascontiguousarray(tensor))
        entries.append(_text(name) + _tensor(str(storages[id(tensor)]), tensor))
    program = b"\x80\x02}(" + b"".join(entries) + b"u."
    with write_aside(path) as file, zipfile.ZipFile(file, "w") as archive:
        _add(archive, file, f"{path.stem}/data.pkl", program)
        _add(archive, file, f"{path.stem}/byteorder", b"little")
        for key, array in enumerate(arrays):
            _add(archive, file, f"{path.stem}/data/{key}", array.tobytes())
        _add(archive, file, f"{path.stem}/version", b"3\n")


def _add(archive: zipfile.ZipFile, file: BinaryIO, name: str, content: bytes) -> None:
    """Stores a member, its content beginning at a multiple of the alignment."""
    info = zipfile.ZipInfo(name)
    start = file.tell() + _LOCAL_HEADER + len(name.encode()) + 4
    padding = -start % _ALIGNMENT
    info.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    archive.writestr(info, content)


def _text(value: str) -> bytes:
    content = value.encode("utf-8")
    return b"X" + struct.pack("<I", len(content)) + content


def _number(value: int) -> bytes:
    if value < 2**31:
        return b"J" + struct.pack("<i", value)
    content = pickle.encode_long(value)
    return b"\x8a" + bytes([len(content)]) + content


def _numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_number, values)) + b"t"


def _tensor(key: str, tensor: np.ndarray) -> bytes:
    """The pickle instructions for one contiguous tensor on the storage `key`."""
    kind = _TYPES[tensor.dtype]
    strides = tuple(int(np.prod(tensor.shape[axis + 1 :], dtype=np.int64)) for axis in range(tensor.ndim))
    storage = b"(" + _text("storage") + f"ctorch\n{kind}\n".encode() + _text(key) + _text("cpu")
    storage += _number(tensor.size) + b"tQ"
    view = _number(0) + _numbers(tensor.shape) + _numbers(strides)
    hooks = b"\x89ccollections\nOrderedDict\n)R"  # requires_grad False, no backward hooks
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + view + hooks + b"tR"

"""Writes `.pt` files that PyTorch reads, without PyTorch (`read` tells the layout)."""

import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from circuits_jax.released.torch_files.read import STORAGES
from circuits_jax.storage.errors import CheckpointError
from circuits_jax.storage.files import write_aside

_ALIGNMENT = 64  # of each storage in the file, so that it can be mapped into memory
_LOCAL_HEADER = 30
_TYPES = {dtype: name for name, dtype in STORAGES.items()}


def write_torch_file(path: Path, value: Any) -> None:
    """Writes `value` as `torch.save` writes it, arrays as CPU tensors.

    Args:
      path: The file; written aside, then renamed.
      value: Dicts, lists, tuples, str, int, float, bool, None, and arrays of a type in
        `torch_file.STORAGES`, in any nesting.  An array that occurs twice is stored once.

    Raises:
      CheckpointError: for anything else.
    """
    pickler = _Pickler()
    program = b"\x80\x02" + pickler.instructions(value, "the content") + b"."
    with write_aside(path) as file, zipfile.ZipFile(file, "w") as archive:
        _add(archive, file, f"{path.stem}/data.pkl", program)
        _add(archive, file, f"{path.stem}/byteorder", b"little")
        for key, array in enumerate(pickler.arrays):
            _add(archive, file, f"{path.stem}/data/{key}", array.tobytes())
        _add(archive, file, f"{path.stem}/version", b"3\n")


class _Pickler:
    """Pickle instructions (protocol 2) for values, and the arrays whose storages they name."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []
        self._keys: dict[int, int] = {}

    def instructions(self, value: Any, where: str) -> bytes:
        """What builds `value` on top of the stack; errors say that it lies at `where`."""
        match value:
            case None:
                return b"N"
            case bool():
                return b"\x88" if value else b"\x89"
            case int():
                return _number(value)
            case float():
                return b"G" + struct.pack(">d", value)
            case str():
                return _text(value)
            case list():
                return b"](" + self._all(value, where) + b"e"
            case tuple():
                return b"(" + self._all(value, where) + b"t"
            case Mapping():
                items = (
                    self.instructions(key, where) + self.instructions(each, str(key))
                    for key, each in value.items()
                )
                return b"}(" + b"".join(items) + b"u"
            case np.ndarray() if value.dtype in _TYPES:
                return self._tensor(value)
            case np.ndarray():
                raise CheckpointError(
                    f"{where} is {value.dtype}; a .pt file holds {', '.join(map(str, _TYPES))}"
                )
            case _:
                raise CheckpointError(f"{where} is a {type(value).__name__}, which a .pt file cannot hold")

    def _all(self, values: Sequence[Any], where: str) -> bytes:
        return b"".join(self.instructions(value, where) for value in values)

    def _tensor(self, tensor: np.ndarray) -> bytes:
        """A contiguous tensor on a storage of its own."""
        if id(tensor) not in self._keys:
            self._keys[id(tensor)] = len(self.arrays)
            self.arrays.append(tensor)  # the array itself, so that its id stays its own
        key, kind = str(self._keys[id(tensor)]), _TYPES[tensor.dtype]
        strides = tuple(int(np.prod(tensor.shape[axis + 1 :], dtype=np.int64)) for axis in range(tensor.ndim))
        storage = b"(" + _text("storage") + f"ctorch\n{kind}\n".encode() + _text(key) + _text("cpu")
        storage += _number(tensor.size) + b"tQ"
        view = _number(0) + _numbers(tensor.shape) + _numbers(strides)
        hooks = b"\x89ccollections\nOrderedDict\n)R"  # requires_grad False, no backward hooks
        return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + view + hooks + b"tR"


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
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    content = pickle.encode_long(value)
    return b"\x8a" + bytes([len(content)]) + content


def _numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_number, values)) + b"t"

"""PyTorch's `.pt` files without PyTorch, and without running anything that they contain.

A `.pt` file is an uncompressed zip archive: `<root>/data.pkl` is a pickle that describes containers
and tensors, `<root>/data/<key>` are the tensors' storages, raw bytes.  `unpickle` interprets the
pickle and refuses by name whatever is no container and no tensor.  This one path is used whether
PyTorch is installed or not; only files of before 1.6, which are no archives, are left to PyTorch itself
(`weights_only`), where it is installed and safe.
"""

import importlib.util
import mmap
import re
import struct
import zipfile
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np

from circuits_jax.released.listing import listed
from circuits_jax.released.mapped_files import forget_pages, map_file
from circuits_jax.released.torch_files.unpickle import Global, interpret
from circuits_jax.storage.errors import CheckpointError
from circuits_jax.storage.files import at_hand

STORAGES = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # a pickled magic number: PyTorch before 1.6
_SAFE_TORCH = (2, 6)  # the first release whose `weights_only` cannot be made to run code (CVE-2025-32434)
_ZIP = b"PK\x03\x04"
_LOCAL_HEADER = 30  # bytes before a member's name and extra field
# What zipfile raises for archives that are damaged or use what it does not support.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    OverflowError,
)


def read_torch_file(path: Path) -> Any:
    """The content of a `.pt` file, tensors as numpy arrays (bfloat16 by ml_dtypes).

    Args:
      path: A file written by `torch.save`.

    Returns:
      What was saved: containers (dict, list, tuple), str, int, float, bool, None and arrays, which are
      read-only views of the mapped file.

    Raises:
      CheckpointError: if the file is empty, truncated, damaged, no zip archive, asks for anything but
        containers and tensors, or is of the format before PyTorch 1.6 and PyTorch is not installed.
    """
    mapping = map_file(path)
    start = mapping[: len(_LEGACY)]
    if start.startswith(_LEGACY):
        return _read_legacy(path)
    _check_start(path, start)
    try:
        with at_hand(path) as here, zipfile.ZipFile(here) as archive:
            return _Reader(archive, mapping).read()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except _ZIP_ERRORS as error:
        raise CheckpointError(
            f"{path} is damaged or truncated ({error}); download or export it again"
        ) from error


def _read_legacy(path: Path) -> Any:
    """The content of a file of before PyTorch 1.6, read by PyTorch, which is let make tensors and no more."""
    if importlib.util.find_spec("torch") is None:
        raise CheckpointError(
            f"{path} is in PyTorch's format before 1.6; install PyTorch, or save it anew with torch.save"
        )
    import torch  # not needed by anything else

    version = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if version is None or tuple(map(int, version.groups())) < _SAFE_TORCH:
        raise CheckpointError(
            f"{path} is in PyTorch's format before 1.6, and PyTorch {torch.__version__} may run its content; "
            f"install PyTorch {'.'.join(map(str, _SAFE_TORCH))} or later, or save it anew with torch.save"
        )
    try:
        with at_hand(path) as here:
            return _as_numpy(torch.load(here, map_location="cpu", weights_only=True), torch)
    except Exception as error:  # of many kinds, for what is damaged and what is refused
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(f"{path}: PyTorch cannot read it ({why})") from error


def _as_numpy(content: Any, torch: ModuleType) -> Any:
    """Containers of PyTorch's tensors as containers of arrays."""
    if isinstance(content, dict):
        return {key: _as_numpy(value, torch) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)(_as_numpy(value, torch) for value in content)
    if not isinstance(content, torch.Tensor):
        return content
    if content.dtype == torch.bfloat16:  # which numpy has not
        return content.detach().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return content.detach().numpy()


def _check_start(path: Path, start: bytes) -> None:
    """Raises CheckpointError unless the file begins as a zip archive does."""
    if not start.startswith(_ZIP):
        raise CheckpointError(f"{path} is not a zip archive, so not a .pt file; download or export it again")


class _Reader:
    """One archive: its members, and the values its pickle describes."""

    def __init__(self, archive: zipfile.ZipFile, mapping: mmap.mmap):
        self._archive, self._mapping = archive, mapping
        self._members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in self._members if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise CheckpointError(f"the archive holds {len(pickles)} files <root>/data.pkl; it must hold one")
        self._root = pickles[0].removesuffix("data.pkl")
        outside = [n for n in self._members if not n.startswith(self._root) or ".." in n.split("/")]
        if outside:
            raise CheckpointError(f"archive members outside the folder {self._root}: {listed(outside)}")
        self._storages: dict[str, np.ndarray] = {}

    def read(self) -> Any:
        order = self._root + "byteorder"
        if order in self._members and self._member(order) != b"little":
            raise CheckpointError("the archive is big-endian; save it again on a little-endian machine")
        return interpret(self._member(self._root + "data.pkl"), self._storage)

    def _info(self, name: str) -> zipfile.ZipInfo:
        info = self._members.get(name)
        if info is None:
            raise CheckpointError(f"the archive lacks {name}")
        if info.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(f"{name} is compressed; PyTorch stores its members uncompressed")
        return info

    def _member(self, name: str) -> bytes:
        return self._archive.read(self._info(name))

    def _mapped(self, name: str) -> np.ndarray:
        """The bytes of a member, uint8, where they lie in the mapped file, after a look at their checksum."""
        info = self._info(name)
        header = self._mapping[info.header_offset : info.header_offset + _LOCAL_HEADER]
        if not header.startswith(_ZIP):
            raise CheckpointError(f"{name} is not where the archive says")
        start = info.header_offset + _LOCAL_HEADER + sum(struct.unpack("<HH", header[26:30]))
        if info.file_size != info.compress_size or start + info.file_size > len(self._mapping):
            raise CheckpointError(f"{name} reaches over the end of the archive")
        content = np.frombuffer(self._mapping, np.uint8, info.file_size, start)
        if zlib.crc32(content) != info.CRC:
            raise CheckpointError(f"{name} is damaged (CRC); download or export the file again")
        forget_pages(content)
        return content

    def _storage(self, reference: Any) -> np.ndarray:
        """The flat array that a persistent id ("storage", type, key, location, count) names."""
        match reference:
            case ("storage", Global(name), str(key), str(), int(count)):
                kind = name.removeprefix("torch ")
            case _:
                raise CheckpointError("the pickle refers to something outside that is no tensor storage")
        if kind not in STORAGES:
            raise CheckpointError(f"a storage is of type {kind}; known are {', '.join(STORAGES)}")
        if key not in self._storages:
            content = self._mapped(f"{self._root}data/{key}")
            if content.size % STORAGES[kind].itemsize:
                raise CheckpointError(f"storage {key} has {content.size} bytes, no whole number of {kind}")
            self._storages[key] = content.view(STORAGES[kind])
        storage = self._storages[key]
        if storage.dtype != STORAGES[kind] or storage.size != count:
            raise CheckpointError(
                f"storage {key} has {storage.size} {storage.dtype}, not {count} {kind} entries"
            )
        return storage

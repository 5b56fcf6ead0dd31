"""Tokens cut into windows in a file that is written as they come, and mapped to be read.

N windows, T = n_ctx + 1 tokens of a window (inputs and targets overlap by n_ctx)."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.files import write_aside

_HEADER = 128  # bytes of a file before its first window
_ROWS = 4096  # windows that are copied at a time


@dataclasses.dataclass(frozen=True)
class Windows:
    """One split, cut into windows.

    Attributes:
      tokens: uint16 or, for a vocabulary too large for that, int32 [N, T], usually mapped from a file.
      counts: What the windows were made of: `files`, `bytes` and `tokens` of code, and how many windows of
        generated programs were mixed in: `generated` in all, `generated_distinct` different ones.
    """

    tokens: np.ndarray
    counts: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def n_ctx(self) -> int:
        """Tokens the model reads of a window."""
        return self.tokens.shape[1] - 1

    def rows(self, which: Any) -> np.ndarray:
        """Some of the windows, read into memory, int32 [..., T]."""
        return np.asarray(self.tokens[which], np.int32)


def token_type(vocab_size: int) -> np.dtype:
    """The smallest type that windows of such a vocabulary are kept in."""
    return np.dtype(np.uint16 if vocab_size <= 2**16 else np.int32)


class WindowsWriter:
    """Cuts documents into windows and writes them to a .npy file, a few at a time.

    Attributes:
      count: Windows written so far.
      tokens: Tokens of the documents so far, end-of-text included.
    """

    def __init__(self, file: BinaryIO, eot: int, n_ctx: int, vocab_size: int):
        self._file, self._eot, self._width = file, eot, n_ctx + 1
        self._type = token_type(vocab_size)
        self._rest = np.zeros(0, self._type)
        self.count = self.tokens = 0
        file.write(_header(self._type, (0, self._width)))

    def add(self, documents: Sequence[Sequence[int]]) -> None:
        """Joins documents to those of before, an end-of-text after each; empty ones are left out."""
        parts = [np.asarray([*document, self._eot], self._type) for document in documents if len(document)]
        self.tokens += sum(map(len, parts))
        row = np.concatenate([self._rest, *parts])
        count = len(row) // self._width
        self._write(row[: count * self._width].reshape(count, self._width))
        self._rest = row[count * self._width :]

    def mix(self, generated: np.ndarray, share: float) -> int:
        """Adds generated windows, as many as make up `share` of the result; too few are repeated in turn.

        What remains of the last document is left out.

        Args:
          generated: [M, T], M > 0.
          share: Of the result's rows, in [0, 1), met to the nearest row.

        Returns:
          How many were added: round(count share / (1 - share)).
        """
        self._rest = self._rest[:0]
        count = round(self.count * share / (1 - share))
        for start in range(0, count, _ROWS):
            self._write(generated[np.arange(start, min(start + _ROWS, count)) % len(generated)])
        return count

    def copy(self, windows: np.ndarray) -> None:
        """Adds windows [M, T] as they are."""
        for start in range(0, len(windows), _ROWS):
            self._write(windows[start : start + _ROWS])

    def close(self) -> None:
        """Writes down how many windows there are; what remains of the last document is left out."""
        self._file.seek(0)
        self._file.write(_header(self._type, (self.count, self._width)))

    def _write(self, windows: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(windows, self._type).data)
        self.count += len(windows)


@contextlib.contextmanager
def write_windows(path: Path, eot: int, n_ctx: int, vocab_size: int) -> Iterator[WindowsWriter]:
    """A writer whose file becomes `path` when the block ends without an error."""
    with write_aside(path) as file:
        writer = WindowsWriter(file, eot, n_ctx, vocab_size)
        yield writer
        writer.close()


def map_tokens(path: Path) -> np.ndarray:
    """The windows in a file, [N, T], mapped.

    Raises:
      OSError, EOFError, ValueError: if it is missing or damaged.
    """
    return np.load(path, mmap_mode="r", allow_pickle=False)


def check_windows(count: int, split: str, n_ctx: int, tokens: int) -> None:
    """Raises ConfigError if `split`, of `tokens` tokens, holds not a single window."""
    if not count:
        raise ConfigError(
            f"the {split} split holds {tokens} tokens, fewer than one window of model.n_ctx + 1 = "
            f"{n_ctx + 1}; lower model.n_ctx or add files to data.roots"
        )


def _header(kind: np.dtype, shape: tuple[int, int]) -> bytes:
    """The beginning of a .npy file, of one length whatever the shape."""
    about = f"{{'descr': {np.lib.format.dtype_to_descr(kind)!r}, 'fortran_order': False, 'shape': {shape}, }}"
    magic = b"\x93NUMPY\x01\x00"
    text = about.encode().ljust(_HEADER - len(magic) - 3) + b"\n"
    return magic + len(text).to_bytes(2, "little") + text

"""What a command prints comes at once, in whatever encoding there is, and its reader may leave."""

import errno
import io
import os
import sys
from typing import Any, TextIO

_GONE = (errno.EPIPE, errno.EIO)  # `| head` has seen enough, or the terminal was closed


class _Lasting(io.RawIOBase):
    """The file below a stream, which goes on taking what is written when nobody reads it any more."""

    def __init__(self, stream: TextIO):
        self._stream = stream  # which would close the file if it were forgotten
        self._descriptor = stream.fileno()
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: Any, /) -> int:
        if self.error is None:
            try:
                return os.write(self._descriptor, data)
            except OSError as error:
                self.error = error
        return len(data)


def last_out() -> None:
    """Makes stdout and stderr flush every line, escape what their encoding lacks, and outlive their readers.

    A run that has trained for hours does not end because its log does.
    """
    sys.stdout, sys.stderr = _lasting(sys.stdout), _lasting(sys.stderr)


def lost_output() -> str | None:
    """Why what was printed was lost, such as a full disk; None if it was not, or nobody wanted more of it."""
    for stream in (sys.stdout, sys.stderr):
        raw = _raw(stream)
        if isinstance(raw, _Lasting) and raw.error is not None and raw.error.errno not in _GONE:
            return raw.error.strerror or str(raw.error)
    return None


def _lasting(stream: TextIO | None) -> TextIO:
    if stream is None:  # closed by whoever started the process
        return open(os.devnull, "w", encoding="utf-8")
    if not isinstance(_raw(stream), io.FileIO):  # a notebook's or a test's
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Lasting(stream)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=True,
    )


def _raw(stream: TextIO) -> object:
    """What lies below the buffers of a stream, of which there are none with PYTHONUNBUFFERED."""
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)

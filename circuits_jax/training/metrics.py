"""metrics.jsonl: one row a logged step, continuous across kills and restarts."""

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from circuits_jax.storage import filenames
from circuits_jax.storage.errors import TrainingError, UserError
from circuits_jax.storage.files import write_aside
from circuits_jax.storage.lfs import refuse_pointer
from circuits_jax.storage.mirror import Mirror
from circuits_jax.storage.paths import is_remote
from circuits_jax.training.multihost.processes import is_primary


class MetricsWriter:
    """Appends rows to `metrics.jsonl`, from process 0; to TensorBoard too if asked for (tensorboardX)."""

    def __init__(self, workdir: Path, restored_step: int, tensorboard: bool = False):
        """Cuts the file back to `restored_step`, so that a resumed run goes on where its state is.

        Raises:
          TrainingError: if the file cannot be written.
          PointerError: if it is a Git LFS pointer, which stays as it is.
        """
        self._file: TextIO | _BucketFile | None = None
        self._board = None
        if not is_primary():
            return
        path = workdir / filenames.METRICS
        rows = [row for row in read_metrics(workdir) if row["step"] <= restored_step]
        _tell_damage(path)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        self._path = path
        with _reported(path):
            if is_remote(path):
                self._file = _BucketFile(path, text)
            else:
                with write_aside(path) as file:
                    file.write(text.encode())
                self._file = path.open("a", buffering=1, encoding="utf-8")
        self._board = _Board(workdir / "tensorboard") if tensorboard else None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a row; values that are not finite numbers are left out.

        Raises:
          TrainingError: if the file cannot be written.
        """
        if self._file is None:
            return
        finite = {key: float(value) for key, value in values.items() if math.isfinite(value)}
        with _reported(self._path):
            self._file.write(json.dumps({"step": step, **finite}) + "\n")
        if self._board is not None:
            with _reported(self._path):
                self._board.write(step, finite)

    def flush(self) -> None:
        """Returns when all rows are where a killed run leaves them: a checkpoint must not be newer.

        Raises:
          TrainingError: if the file cannot be written.
        """
        if self._file is not None:
            with _reported(self._path):
                self._file.flush()

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            with _reported(self._path):
                self._file.close()
        if self._board is not None:
            with _reported(self._path):
                self._board.close()


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl`, [] if there is none; a damaged line costs that row alone.

    Raises:
      PointerError: if it is a Git LFS pointer.
    """
    path = workdir / filenames.METRICS
    if not path.exists():
        return []
    content = path.read_bytes()
    refuse_pointer(content, path)
    rows = (_parse(line) for line in content.split(b"\n"))
    return [row for row in rows if row is not None]


def _parse(line: bytes) -> dict[str, Any] | None:
    """A row; None for what a kill, a full disk or an editor made of one."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        return None
    return row if all(map(_is_figure, row.values())) else None


def _is_figure(value: Any) -> bool:
    """Whether this is a finite number, as a row is written with; 1e400 is none."""
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def _tell_damage(path: Path) -> None:
    """Says which lines are no rows, before a file without them takes its place; the last one may be cut."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    damaged = [number for number, line in enumerate(lines, 1) if line.strip() and _parse(line) is None]
    if damaged:
        some = ", ".join(map(str, damaged[:5])) + (", ..." if len(damaged) > 5 else "")
        print(f"{path}: {len(damaged)} damaged lines are left out (line {some}); all others are kept")


class _Pauses:
    """Between copies to a bucket: ten seconds, and twenty times as long as a copy takes."""

    def __init__(self) -> None:
        self._next = -math.inf

    def over(self) -> bool:
        """Whether it is time for the next copy."""
        return time.monotonic() >= self._next

    @contextlib.contextmanager
    def after(self) -> Iterator[None]:
        """The next pause begins with the end of the block, which copies."""
        began = time.monotonic()
        yield
        ended = time.monotonic()
        self._next = ended + max(10.0, 20 * (ended - began))


class _BucketFile:
    """A text file of a bucket, where nothing can be appended: written anew, after pauses."""

    def __init__(self, path: Path, text: str):
        self._path, self._text, self._pauses = path, text, _Pauses()

    def write(self, text: str) -> None:
        self._text += text
        if self._pauses.over():
            self.flush()

    def flush(self) -> None:
        """Writes what there is."""
        with self._pauses.after():
            self._path.write_text(self._text, encoding="utf-8")

    def close(self) -> None:
        """The same: nothing is open."""
        self.flush()


class _Board:
    """TensorBoard's summaries, by tensorboardX."""

    def __init__(self, folder: Path):
        """Raises UserError if tensorboardX is not installed."""
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise UserError("TensorBoard output needs tensorboardX: pip install tensorboardX") from error
        self._mirror, self._pauses = Mirror(folder), _Pauses()
        self._writer = SummaryWriter(str(self._mirror.path))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self._writer.add_scalar(key, value, step)
        if self._pauses.over():
            self._writer.flush()
            with self._pauses.after():
                self._mirror.copy()

    def close(self) -> None:
        """Writes what there is."""
        self._writer.close()
        self._mirror.close()


@contextlib.contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"cannot write to {path}: {error.strerror or error}; checkpoints are intact: make room, "
            "or make the folder writable, and give the same command again"
        ) from error

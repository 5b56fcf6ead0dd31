"""metrics.jsonl: one row a logged step, continuous across kills and restarts."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from circuits_jax.errors import UserError
from circuits_jax.files import write_aside


class MetricsWriter:
    """Appends rows to `metrics.jsonl`; with tensorboardX installed and asked for, to TensorBoard too."""

    def __init__(self, workdir: Path, restored_step: int, tensorboard: bool = False):
        """Cuts the file back to `restored_step`, so that a resumed run goes on where its state is."""
        self._path = workdir / "metrics.jsonl"
        rows = [row for row in read_metrics(workdir) if row["step"] <= restored_step]
        with write_aside(self._path) as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
        self._file = self._path.open("a", buffering=1)
        self._board = _summary_writer(workdir) if tensorboard else None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a row; values that are not finite numbers are left out."""
        finite = {key: float(value) for key, value in values.items() if math.isfinite(value)}
        self._file.write(json.dumps({"step": step, **finite}) + "\n")
        if self._board is not None:
            for key, value in finite.items():
                self._board.add_scalar(key, value, step)

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl`, [] if there is none; a last line cut short by a kill is dropped."""
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def _summary_writer(workdir: Path) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise UserError("TensorBoard output needs tensorboardX: pip install tensorboardX") from error
    return SummaryWriter(str(workdir / "tensorboard"))

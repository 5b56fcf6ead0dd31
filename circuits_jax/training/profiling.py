"""A trace of chosen steps, to be read with TensorBoard's profile plugin, XProf or Perfetto."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import jax


class Profiler:
    """Traces the steps from `steps[0]` to `steps[1]` into `<workdir>/profile`; none if `steps` is empty."""

    def __init__(self, steps: Sequence[int], workdir: Path):
        self._steps, self._folder = tuple(steps), workdir / "profile"
        self._running = False

    def before(self, step: int) -> None:
        """To be called before each step."""
        if self._steps and step == self._steps[0]:
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def after(self, step: int, results: Any) -> None:
        """To be called after each step, with something that it computes."""
        if self._running and step >= self._steps[1]:
            jax.block_until_ready(results)
            self._stop()

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._running:
            self._stop()

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self._running = False

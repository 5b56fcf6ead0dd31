"""A trace of chosen steps, to be read with TensorBoard's profile plugin, XProf or Perfetto."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import jax

from circuits_jax.storage.mirror import Mirror


class Profiler:
    """Traces the steps from `steps[0]` to `steps[1]` into `<workdir>/profile`; none if `steps` is empty."""

    def __init__(self, steps: Sequence[int], workdir: Path):
        self._steps, self._folder = tuple(steps), workdir / "profile"
        self._mirror: Mirror | None = None

    def before(self, step: int) -> None:
        """To be called before each step."""
        if self._steps and step == self._steps[0]:
            self._mirror = Mirror(self._folder)
            jax.profiler.start_trace(str(self._mirror.path))

    def after(self, step: int, results: Any) -> None:
        """To be called after each step, with something that it computes."""
        if self._mirror is not None and step >= self._steps[1]:
            jax.block_until_ready(results)
            self._stop()

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._mirror is not None:
            self._stop()

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self._mirror.close()
        self._mirror = None

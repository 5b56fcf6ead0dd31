"""Being asked to stop: a pod is about to be preempted, a queue's time is up."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from circuits_jax.storage.errors import Stopped


class StopSignal:
    """Within the block, SIGTERM is kept in mind instead of ending the process."""

    def __init__(self) -> None:
        self._asked = False
        self._before: Any = None

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python cannot set handlers
            self._before = signal.signal(signal.SIGTERM, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def agreed(self, together: bool) -> bool:
        """Whether to stop after this step.

        Several processes must stop after the same one: they ask each other where `together` is True, which
        all reach with nothing else under way.
        """
        if jax.process_count() == 1:
            return self._asked
        return together and bool(np.any(multihost_utils.process_allgather(np.array(self._asked))))

    def leave(self, step: int) -> NoReturn:
        """Ends the run after `step`, whose state is saved."""
        raise Stopped(
            f"asked to stop (SIGTERM) after step {step}, which is saved; the same command goes on from it"
        )

    def _remember(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._asked = True

"""Several processes that are asked to stop do so after the same step."""

import time
from collections.abc import Callable
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from circuits_jax.storage import stopping

VOTE_SECONDS = 2.0


class StopVote:
    """Whether to stop after a step: with several processes, when one of them was asked to.

    They ask each other every VOTE_SECONDS or so, after steps that process 0 chooses by its pace.
    """

    def __init__(self, first: int):
        """The run goes on after step `first`."""
        self._next, self._step, self._time = first + 1, first, time.monotonic()

    def agreed(self, step: int, settle: Callable[[], None]) -> int:
        """The number of the signal after which all stop now, 0 if none.

        Args:
          step: The step that was taken last.
          settle: Returns when nothing is under way on the devices, whose exchanges the votes would cross.
        """
        if jax.process_count() == 1:
            return stopping.asked()
        if step < self._next:
            return 0
        settle()
        pace = (step - self._step) / (time.monotonic() - self._time)
        ours = np.array([stopping.asked(), max(1, min(round(pace * VOTE_SECONDS), 10**6))], np.int32)
        votes = np.asarray(multihost_utils.process_allgather(ours))
        self._next = step + int(votes[0, 1])
        self._step, self._time = step, time.monotonic()
        return int(votes[:, 0].max())

    def leave(self, step: int, number: int) -> NoReturn:
        """Ends the run after `step`, whose state is saved."""
        end = stopping.stopped(
            number, f" after step {step}, which is saved; the same command goes on from it"
        )
        end.agreed = True
        raise end

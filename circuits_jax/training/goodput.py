"""Goodput: the share of a run's wall time that its training steps took."""

import contextlib
import time
from collections.abc import Callable, Iterator


class Goodput:
    """A clock of one call of a run, which tells apart what its time went to.

    Whatever stands in `spent()` is no training: reading a checkpoint, compiling, evaluation, saving.  Waiting
    for a batch is told beside it and not taken off, for devices may be busy with the step before.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        """Begins now.

        Args:
          clock: () -> seconds.
        """
        self._clock, self._began = clock, clock()
        self._spent = self._waited = 0.0

    @contextlib.contextmanager
    def spent(self) -> Iterator[None]:
        """The block is no training."""
        began = self._clock()
        try:
            yield
        finally:
            self._spent += self._clock() - began

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """The block waits for data."""
        began = self._clock()
        try:
            yield
        finally:
            self._waited += self._clock() - began

    def figures(self) -> dict[str, float]:
        """Shares: "goodput", of the time until now, that steps took; "data_wait", of that, in which the next
        batch was waited for.
        """
        gone = self._clock() - self._began
        steps = gone - self._spent
        return {"goodput": steps / gone, "data_wait": self._waited / steps} if steps > 0 else {}

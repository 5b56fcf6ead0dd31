"""How far something is: a bar on a terminal; elsewhere, in a log, whole lines now and then."""

import math
import sys
import time
from typing import Any

from tqdm import tqdm

LINE_SECONDS = 10.0
_LINE = "{desc} {n_fmt} of {total_fmt} {unit}{postfix}, {rate_fmt}, {elapsed} gone, {remaining} to go"
_ENDLESS = "{desc} {n_fmt} {unit}{postfix}, {rate_fmt}, {elapsed} gone"


class ProgressBar(tqdm):
    """tqdm's bar, with tqdm's arguments.

    Off a terminal it says whole lines, of all bars together at most one in LINE_SECONDS, the first of each
    when there is something to say.
    """

    _said = -math.inf  # when the last line of any bar was said

    def __init__(self, *args: Any, **kwargs: Any):
        self._in_lines = not (kwargs.get("file") or sys.stderr).isatty()
        super().__init__(*args, **kwargs)
        if self._in_lines:
            self.bar_format = _ENDLESS if self.total is None else _LINE

    def display(self, msg: str | None = None, pos: int | None = None) -> bool | None:
        """Shows where it is, unless it is too soon for another line."""
        if not self._in_lines:
            return super().display(msg, pos)
        now = time.monotonic()
        news = self.n > self.initial and (self.postfix or self.format_dict["elapsed"] >= LINE_SECONDS)
        if news and now - ProgressBar._said >= LINE_SECONDS:
            ProgressBar._said = now
            self.fp.write(f"{self}\n")
            self.fp.flush()
        return True

    def clear(self, nolock: bool = False) -> None:
        """Takes the bar from the screen; lines stay."""
        if not self._in_lines:
            super().clear(nolock)

    def close(self) -> None:
        """Ends it."""
        if self._in_lines and not self.disable:
            self.display()
            self.sp = None  # nothing is left on the screen to be tidied up
        super().close()

"""Axes: which figures are written along them, and where a figure lies."""

import dataclasses
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`, drawn from `start` to `end` (pixels, either way round).

    Attributes:
      low, high: Its ends, low < high; both above 0 where it is logarithmic.
      start, end: Where they are drawn.
      logarithmic: Whether equal ratios are equally long.
      ticks: The figures that are written along it.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Where a figure lies; what is beyond an end lies there."""
        low, high, value = (
            math.log(x) if self.logarithmic else x
            for x in (self.low, self.high, min(max(value, self.low), self.high))
        )
        return round(self.start + (self.end - self.start) * (value - low) / (high - low), 1)


def linear_axis(values: Sequence[float], start: float, end: float, about: int = 6) -> Axis:
    """An axis with some room on both sides of the values and about so many round ticks."""
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - room, high + room
    step = 10.0 ** math.floor(math.log10((high - low) / about))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= about)
    first = math.ceil(low / step)
    ticks = tuple(i * step for i in range(first, math.floor(high / step + 1e-9) + 1))
    return Axis(low, high, start, end, False, ticks)


def log_axis(values: Sequence[float], start: float, end: float) -> Axis:
    """A logarithmic axis with some room on both sides of the values, all above 0, and round ticks."""
    low, high = min(values), max(values)
    room = max((high / low) ** 0.08, 1.3)
    low, high = low / room, high * room
    decades = math.log10(high / low)
    steps = (1, 2, 5) if decades < 2.5 else (1, 3) if decades < 3.5 else (1,)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = tuple(
        factor * 10.0**exponent
        for exponent in exponents
        for factor in steps
        if low <= factor * 10.0**exponent <= high
    )
    return Axis(low, high, start, end, True, ticks)

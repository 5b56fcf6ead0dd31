"""Figures with bootstrap intervals over pairs, in numpy.

A figure is a mean over pairs; its interval is that of the mean over pairs drawn with replacement (the
percentile method).  One set of draws serves all figures of as many pairs.  A calibration is fitted once, not
again for each draw.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Figure:
    """A value and its interval."""

    value: float
    low: float
    high: float


class Bootstrap:
    """Intervals for means over `count` units (pairs, or single prompts).

    Args:
      count: How many units.
      resamples: How often they are drawn.
      confidence: Of the interval, in (0, 1].
      seed: Of the draws.
    """

    def __init__(self, count: int, resamples: int, confidence: float, seed: int):
        # RandomState, because numpy promises its stream for ever.
        drawn = np.random.RandomState(seed).multinomial(count, np.full(count, 1 / count), resamples)
        self._times = drawn.astype(np.float64)  # [resamples, count]
        self._quantiles = ((1 - confidence) / 2, (1 + confidence) / 2)

    def figure(self, values: np.ndarray) -> Figure:
        """Mean of `values` [count], with its interval."""
        values = np.asarray(values, np.float64)
        low, high = np.quantile(self._times @ values / len(values), self._quantiles)
        return Figure(float(values.mean()), float(low), float(high))


def pair_losses(
    difference: np.ndarray, scale: np.ndarray | float = 1.0, shift: np.ndarray | float = 0.0
) -> np.ndarray:
    """Task loss of each pair in nats, [..., N], from logit differences by pair role [..., N, 2].

    Args:
      difference: l[answer A] - l[answer B] on prompts A and B.
      scale, shift: The calibration, broadcast over all but the last two axes.
    """
    scale, shift = (np.asarray(x, np.float64)[..., None, None] for x in (scale, shift))
    margin = (scale * difference + shift) * [1, -1]
    return np.logaddexp(0, -margin).mean(axis=-1)


def pair_accuracies(difference: np.ndarray) -> np.ndarray:
    """Share of each pair's prompts that are answered right, [..., N], from [..., N, 2]; a tie is wrong."""
    return (difference * [1, -1] > 0).mean(axis=-1)


def pair_flips(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Share of each pair's two prompts whose preferred answer differs, [..., N], from [..., N, 2]."""
    return ((before > 0) != (after > 0)).mean(axis=-1)

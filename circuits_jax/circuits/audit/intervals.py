"""Figures with intervals for pairs that come from few templates, in numpy and scipy (docs/statistics.md).

Pairs of one template are alike: a circuit that knows a template answers nearly all of its pairs.  What was
sampled is therefore templates, not pairs, and an interval that takes pairs for independent is too narrow.
The standard error here is that of a mean over clusters, with Student's t for its few degrees of freedom.

Near 0 or 1 a rate is skew, and a 95 % interval by t alone covers 92 % (rate 0.8) or 80 % (0.95)
where templates differ by 0.15.  Formed on the scale of log-odds it covers 95 to 98 % there.  A calibration
is held fixed: it is not fitted again.
"""

import dataclasses

import numpy as np

from circuits_jax.storage.errors import TaskError


@dataclasses.dataclass(frozen=True)
class Figure:
    """A value and its interval."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class ClusteredIntervals:
    """Intervals for means over units (pairs, positions, texts) that come in clusters.

    Attributes:
      clusters: int [N], the cluster of each unit, such as the template that a pair was made from.
      confidence: Of the intervals, in (0, 1).

    Raises:
      TaskError: if there is one cluster, which tells nothing of others.
    """

    clusters: np.ndarray
    confidence: float

    def __post_init__(self) -> None:
        if len(np.unique(self.clusters)) < 2:
            raise TaskError(
                "all pairs are of one template (or all texts of one window of the corpus), which tells "
                "nothing of others; give two or more"
            )

    def mean(self, values: np.ndarray) -> Figure:
        """The mean of `values`, float [N], with Student's interval over clusters."""
        mean, error, t = self._mean(values)
        return Figure(mean, mean - t * error, mean + t * error)

    def loss(self, values: np.ndarray) -> Figure:
        """The mean of `values`, float [N], each at least 0, as `mean` has it but not below 0."""
        found = self.mean(values)
        return dataclasses.replace(found, low=max(0.0, found.low))

    def rate(self, values: np.ndarray) -> Figure:
        """The mean of `values`, float [N], each in [0, 1].

        Where every unit has 0, or every unit 1, it is Clopper and Pearson's interval, a cluster one trial.
        Where clusters do not differ at all, it is that of as many independent units.
        """
        mean, error, t = self._mean(values)
        count, tail = len(np.unique(self.clusters)), (1 - self.confidence) / 2
        if mean == 0 or mean == 1:
            # Beta quantiles: (0 or 1 of `count` trials were right).
            edge = float(tail ** (1 / count))
            return Figure(mean, edge if mean else 0.0, 1.0 if mean else 1 - edge)
        spread = mean * (1 - mean)
        if error < 1e-12:  # not exactly 0: sums of rounded differences
            error = np.sqrt(spread / len(values))
        centre, width = np.log(mean / (1 - mean)), t * error / spread
        low, high = 1 / (1 + np.exp(-np.array([centre - width, centre + width])))
        return Figure(mean, float(low), float(high))

    def _mean(self, values: np.ndarray) -> tuple[float, float, float]:
        """(mean of `values`, its standard error over clusters, Student's t: errors in half an interval)."""
        from scipy import stats  # only here: it is slow to import

        values = np.asarray(values, np.float64)
        mean = values.mean()
        _, cluster = np.unique(self.clusters, return_inverse=True)
        sums = np.bincount(cluster, values - mean)  # 0 where a cluster is as all others
        count = len(sums)
        error = np.sqrt(count / (count - 1) * (sums**2).sum()) / len(values)
        return float(mean), float(error), float(stats.t.ppf((1 + self.confidence) / 2, count - 1))


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

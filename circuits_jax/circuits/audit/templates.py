"""Intervals of figures whose pairs come from few templates, in numpy and scipy (docs/statistics.md).

Pairs of one template are alike: a circuit that knows a template answers nearly all of its pairs.  What was
sampled is therefore templates, not pairs, and an interval that resamples pairs is too narrow.  The standard
error here is that of a mean over clusters, with Student's t for its few degrees of freedom.

Near 0 or 1 a rate is skew, and a 95 % interval by t alone covers 92 % (rate 0.8) or 80 % (0.95)
where templates differ by 0.15.  Formed on the scale of log-odds it covers 95 to 98 % there.
"""

import dataclasses

import numpy as np
from scipy import stats

from circuits_jax.circuits.audit.intervals import Figure
from circuits_jax.storage.errors import TaskError


@dataclasses.dataclass(frozen=True)
class TemplateIntervals:
    """Intervals for means over pairs that come from templates.

    Attributes:
      templates: int [N], which template each pair was made from.
      confidence: Of the intervals, in (0, 1).

    Raises:
      TaskError: if all pairs are of one template, which tells nothing of others.
    """

    templates: np.ndarray
    confidence: float

    def __post_init__(self) -> None:
        if len(np.unique(self.templates)) < 2:
            raise TaskError(
                "all pairs are of one template, so nothing can be said of others; give the task two or more"
            )

    def loss(self, values: np.ndarray) -> Figure:
        """The mean of `values`, float [N], each at least 0, with Student's interval over templates."""
        mean, error, t = self._mean(values)
        return Figure(mean, max(0.0, mean - t * error), mean + t * error)

    def rate(self, values: np.ndarray) -> Figure:
        """The mean of `values`, float [N], each in [0, 1].

        Where every pair has 0, or every pair 1, it is Clopper and Pearson's interval, a template one trial.
        Where templates do not differ at all, it is that of as many independent pairs.
        """
        mean, error, t = self._mean(values)
        count, tail = len(np.unique(self.templates)), (1 - self.confidence) / 2
        if mean == 0 or mean == 1:
            # Beta quantiles: (0 or 1 of `count` trials were right).
            edge = float(tail ** (1 / count))
            return Figure(mean, edge if mean else 0.0, 1.0 if mean else 1 - edge)
        spread = mean * (1 - mean)
        error = error or np.sqrt(spread / len(values))
        centre, width = np.log(mean / (1 - mean)), t * error / spread
        low, high = 1 / (1 + np.exp(-np.array([centre - width, centre + width])))
        return Figure(mean, float(low), float(high))

    def by_template(self, values: np.ndarray) -> dict[int, float]:
        """Mean of `values`, float [N], over the pairs of each template."""
        values = np.asarray(values, np.float64)
        return {int(k): float(values[self.templates == k].mean()) for k in np.unique(self.templates)}

    def _mean(self, values: np.ndarray) -> tuple[float, float, float]:
        """(mean of `values`, its standard error over templates, Student's t: errors in half an interval)."""
        values = np.asarray(values, np.float64)
        mean = values.mean()
        _, cluster = np.unique(self.templates, return_inverse=True)
        sums = np.bincount(cluster, values - mean)  # 0 where a template is as all others
        count = len(sums)
        error = np.sqrt(count / (count - 1) * (sums**2).sum()) / len(values)
        return float(mean), float(error), float(stats.t.ppf((1 + self.confidence) / 2, count - 1))

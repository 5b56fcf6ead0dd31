"""Faithfulness of circuits of growing size, and the areas that sum it up.

See docs/statistics.md, "Faithfulness against size".
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from circuits_jax.circuits.ablation.pairs import PairBatch
from circuits_jax.circuits.baselines.edge_network import EdgeNetwork

FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
LEAST = 0.5  # logits between model and nothing; below it, f divides by what may be noise


@dataclasses.dataclass(frozen=True)
class SizeCurve:
    """f = (m(C) - m(0)) / (m(N) - m(0)) of the first edges in some order, m the logit difference.

    Attributes:
      fractions: Of the edges that C keeps, increasing, the last 1.
      f: One a fraction; the last is 1.
    """

    fractions: tuple[float, ...]
    f: tuple[float, ...]

    @property
    def cpr(self) -> float:
        """Area under f: how much of the answer small circuits give."""
        return areas(self.fractions, self.f)[0]

    @property
    def cmd(self) -> float:
        """Area of |1 - f|: how far circuits are from the model; 0 is best."""
        return areas(self.fractions, self.f)[1]


@dataclasses.dataclass(frozen=True)
class Span:
    """The logit difference, right minus wrong, of the full model and with every node ablated."""

    model: float
    nothing: float

    @property
    def why_not(self) -> str | None:
        """Why no faithfulness can be told, if it cannot."""
        if abs(self.model - self.nothing) >= LEAST:
            return None
        return (
            f"the model's logit difference is {self.model:.3f} and {self.nothing:.3f} with every node "
            f"ablated, less than {LEAST} apart"
        )


def areas(fractions: Sequence[float], f: Sequence[float]) -> tuple[float, float]:
    """(area under f, area of |1 - f|) by trapezoids over the fraction, from 0, where f is 0."""
    x, y = np.array([0.0, *fractions]), np.array([0.0, *f])
    return float(np.trapezoid(y, x)), float(np.trapezoid(np.abs(1 - y), x))


def span(network: EdgeNetwork, pairs: PairBatch) -> Span:
    """What faithfulness is measured between."""
    ends = np.stack([np.ones(network.edges.count, bool), np.zeros(network.edges.count, bool)])
    return Span(*map(float, network.margins(ends, pairs)))


def faithfulness(network: EdgeNetwork, order: np.ndarray, pairs: PairBatch, ends: Span) -> SizeCurve:
    """The curve of the first edges of `order`, at FRACTIONS of all; at least one is kept.

    Args:
      network: The model, with what stands in for removed edges.
      order: int [E], the edge that is kept first, first.
      pairs: What the logit difference is averaged over.
      ends: Of `span`, on the same pairs.
    """
    count = network.edges.count
    kept = np.zeros((len(FRACTIONS), count), bool)
    for row, fraction in zip(kept, FRACTIONS, strict=True):
        row[order[: max(1, round(fraction * count))]] = True
    found = (network.margins(kept, pairs) - ends.nothing) / (ends.model - ends.nothing)
    return SizeCurve(FRACTIONS, tuple(map(float, found)))

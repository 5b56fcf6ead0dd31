"""ACDC: edges go where nothing is lost without them.

Conmy et al. 2023, "Towards Automated Circuit Discovery for Mechanistic Interpretability".  From the answer
back to the prompt, an edge is removed if the cost rises by no more than a threshold over that of the edges
left so far.  Most edges matter to nothing, so they are tried in groups: one that costs no more than a single
edge may goes as a whole, otherwise each half is tried.  A group of one is ACDC's own step.

For an order of all edges thresholds rise, each going on from the edges that the one before left.
"""

from collections.abc import Callable, Sequence

import numpy as np

from circuits_jax.circuits.ablation.pairs import PairBatch
from circuits_jax.circuits.baselines.edge_network import EdgeNetwork, margin
from circuits_jax.circuits.baselines.model_edges import ModelEdges
from circuits_jax.config.audit import ACDC_COSTS
from circuits_jax.config.checks import check_choice


def acdc(
    network: EdgeNetwork, pairs: PairBatch, likely: np.ndarray, thresholds: Sequence[float], cost: str
) -> np.ndarray:
    """How many thresholds each edge outlives, and within these numbers, in (0, 1), the rank of `likely`.

    Args:
      network: The model, with what stands in for removed edges.
      pairs: What costs are measured on.
      likely: float [E], how much each edge is expected to matter: the least go into a group together.
      thresholds: Greater than 0.
      cost: "kl", of the model's answer (one of the two) from the circuit's, in nats; or "difference", what
        the logit difference of right and wrong lacks.

    Raises:
      ConfigError: for another cost.
    """
    kept = np.ones(network.edges.count, bool)
    price = _price(network, pairs, cost)
    values = (np.argsort(np.argsort(likely, kind="stable"), kind="stable") + 0.5) / max(len(likely), 1)
    least_first = np.argsort(likely, kind="stable")
    for threshold in sorted(thresholds):
        for group in _backwards(network.edges):
            kept = _thinned(kept, [e for e in least_first if group[e] and kept[e]], price, threshold)
        values[kept] += 1
    return values


def _backwards(edges: ModelEdges) -> list[np.ndarray]:
    """The edges between each two sites, bool [E], from the answer back."""
    widths = list(edges.widths.values())
    site = np.repeat(np.arange(len(widths)), widths)[edges.targets]  # each is the target of one other site
    return [site == number for number in np.unique(site)[::-1]]


def _thinned(
    kept: np.ndarray, group: Sequence[int], price: Callable[[np.ndarray], float], threshold: float
) -> np.ndarray:
    """`kept` without those of `group` that cost too little."""
    now, waiting = price(kept), [list(group)]
    while waiting:
        tried = waiting.pop()
        if not tried:
            continue
        left = kept.copy()
        left[tried] = False
        then = price(left)
        if then - now <= threshold:
            kept, now = left, then
        elif len(tried) > 1:
            half = len(tried) // 2
            waiting += [tried[half:], tried[:half]]  # the likelier half last
    return kept


def _price(network: EdgeNetwork, pairs: PairBatch, cost: str) -> Callable[[np.ndarray], float]:
    check_choice("the cost of ACDC", cost, ACDC_COSTS)
    everything = np.ones((1, network.edges.count), bool)
    model = network.differences(everything, pairs)[0]

    def price(kept: np.ndarray) -> float:
        found = network.differences(kept[None], pairs)[0]
        if cost == "difference":
            return float(margin(model) - margin(found))
        return float(two_way_kl(model, found).mean())

    return price


def two_way_kl(model: np.ndarray, circuit: np.ndarray) -> np.ndarray:
    """KL divergence, in nats, between the two answers' probabilities, from logit differences of one shape."""
    model, circuit = np.asarray(model, np.float64), np.asarray(circuit, np.float64)
    first = np.exp(-np.logaddexp(0, -model))
    log = {sign: np.logaddexp(0, -sign * circuit) - np.logaddexp(0, -sign * model) for sign in (1, -1)}
    return first * log[1] + (1 - first) * log[-1]

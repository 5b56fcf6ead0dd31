"""What each node and edge is worth: exact ablation deltas, and first-order estimates.

See docs/method.md, "Audit".

A delta is the rise of the task loss when one part is removed, the calibration being that of before.
"""

from collections.abc import Sequence

import numpy as np

from circuits_jax.circuits.ablation.donors import AnyPairs
from circuits_jax.circuits.circuit import Calibration, Importance, Node
from circuits_jax.circuits.graph import nodes_of
from circuits_jax.circuits.masks import Masks, Place, without
from circuits_jax.circuits.pruning.ablator import EDGES, Ablator
from circuits_jax.storage import notices
from circuits_jax.storage.progress import ProgressBar
from circuits_jax.training.multihost.processes import is_primary

MOST_WEIGHED = 4096  # nodes and edges: each is a pass over the pairs
_TOGETHER = 64  # of them between two looks at the clock


def measure_importance(
    ablator: Ablator,
    circuit: tuple[Masks, Calibration],
    full: Calibration,
    pairs: AnyPairs,
    sample: int,
    seed: int,
) -> Importance | None:
    """Deltas of every node and edge of a circuit, and attributions of every node of the full model.

    None, which is told, for a circuit of more than MOST_WEIGHED nodes and edges, as one is that misses its
    target and so keeps nearly the whole model: weighing it would take most of an hour.

    Args:
      ablator: Of the model and the edges that the circuit may have.
      circuit: What the circuit keeps, and its calibration.
      full: The full model's calibration.
      pairs: What losses are averaged over.
      sample: Nodes of the full model whose exact deltas are measured, half of them of the circuit where it
        has as many, the rest drawn from the other nodes.
      seed: Of the draw.
    """
    variant, calibration = circuit
    config, whole = ablator.network.config, ablator.whole
    kept = nodes_of(config, variant)
    edges = [(EDGES, int(i)) for i in np.flatnonzero(variant[EDGES])]
    if len(kept) + len(edges) > MOST_WEIGHED:
        notices.at_the_end(
            f"importance is not measured of a circuit of {len(kept):,} nodes and {len(edges):,} edges, more "
            f"than {MOST_WEIGHED:,}"
        )
        return None
    rises = deltas(ablator, variant, [*kept, *edges], pairs, calibration)
    attribution = ablator.attributions(whole, pairs, full)
    del attribution[EDGES]
    chosen = _draw(kept, nodes_of(config, whole), sample, seed)
    found = deltas(ablator, whole, chosen, pairs, full)
    exact = {site: np.full_like(values, np.nan) for site, values in attribution.items()}
    for (site, index), rise in zip(chosen, found, strict=True):
        exact[site][index] = rise
    return Importance(
        node_deltas=rises[: len(kept)],
        edge_deltas=rises[len(kept) :],
        attribution=attribution,
        exact=exact,
        correlation=correlation(np.array([attribution[site][index] for site, index in chosen]), found),
        pairs=len(pairs[0]),
    )


def deltas(
    ablator: Ablator, variant: Masks, places: Sequence[Place], pairs: AnyPairs, calibration: Calibration
) -> np.ndarray:
    """Rise of the loss when `variant` loses each of `places` (a node, or an edge), float32 [places].

    Shows a bar where it takes long.
    """
    (whole,) = ablator.losses([variant], pairs, calibration)
    losses: list[np.ndarray] = []
    with ProgressBar(
        total=len(places), desc="importance", unit="part", leave=False, delay=5, disable=not is_primary()
    ) as bar:
        for start in range(0, len(places), _TOGETHER):
            lesser = [without(variant, [tuple(place)]) for place in places[start : start + _TOGETHER]]
            losses.append(ablator.losses(lesser, pairs, calibration))
            bar.update(len(lesser))
    return np.concatenate([np.zeros(0, np.float32), *losses]) - whole


def correlation(estimates: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """ "nodes", and Pearson's and Spearman's coefficients where both vary."""
    from scipy.stats import pearsonr, spearmanr  # only here: every command would start later

    found = {"nodes": float(len(exact))}
    if len(exact) > 1 and np.ptp(estimates) > 0 and np.ptp(exact) > 0:
        found["pearson"] = float(pearsonr(estimates, exact).statistic)
        found["spearman"] = float(spearmanr(estimates, exact).statistic)
    return found


def _draw(kept: Sequence[Node], every: Sequence[Node], count: int, seed: int) -> list[Node]:
    """`count` different nodes: up to half from `kept`, the rest from the others."""
    rng = np.random.default_rng(seed)
    inside = set(kept)
    others = [node for node in every if node not in inside]
    ours = [kept[i] for i in rng.permutation(len(kept))[: count // 2]]
    return ours + [others[i] for i in rng.permutation(len(others))[: count - len(ours)]]

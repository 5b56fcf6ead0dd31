"""What the figure of a claim is held against, so that it could also have come out for other nodes.

    swap     all other nodes of the same sites that differ between the prompts, swapped together
    set      DRAWS random sets of as many nodes, none of the circuit's
    compare  how large the difference is, among the nodes of the same sites that are active at all

See docs/method.md, "Stories".
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from circuits_jax.circuits.circuit import Node
from circuits_jax.circuits.masks import Masks
from circuits_jax.circuits.stories.story import RANDOM_SETS, RANK, REST, Claim
from circuits_jax.storage.tables import Report

DRAWS = 20  # to beat all of them by chance alone has a probability of 1 in 21
CHANCE = 0.05  # of random nodes that all rank as high, at most
_TRIES = 50  # for a random set that is not there already

Nodes = Sequence[Node]


def others(nodes: Nodes, candidates: Mapping[str, Any]) -> Nodes:
    """The candidates, {site: bool [width]}, without `nodes`."""
    taken = set(nodes)
    found = [Node(site, int(i)) for site, mask in candidates.items() for i in np.flatnonzero(mask)]
    return [node for node in found if node not in taken]


def random_nodes(
    nodes: Nodes,
    candidates: Mapping[str, Any],
    rng: np.random.Generator,
    barred: Nodes = (),
    count: int = DRAWS,
) -> list[Nodes]:
    """Up to `count` different random sets of nodes, each with as many of every site as `nodes`.

    Args:
      nodes: That are not drawn.
      candidates: {site: bool [width]}, those that may be.
      rng: Draws.
      barred: Others that are not drawn.
      count: How many sets.

    Returns:
      The sets, each in the order of the sites of `nodes`.
    """
    left = others([*nodes, *barred], candidates)
    free = {
        site: [node.index for node in left if node.site == site]
        for site in dict.fromkeys(node.site for node in nodes)
    }
    wanted = {site: sum(node.site == site for node in nodes) for site in free}
    if any(len(free[site]) < wanted[site] for site in free):
        return []
    found: dict[frozenset[Node], Nodes] = {}
    for _ in range(count * _TRIES):
        if len(found) == count:
            break
        drawn = {site: iter(rng.permutation(free[site]).tolist()) for site in free}
        each = [Node(node.site, int(next(drawn[node.site]))) for node in nodes]
        found.setdefault(frozenset(each), each)
    return list(found.values())


def rest_control(claim: Claim, figure: float, nodes: int) -> Report:
    """Of the rest's `figure` when its `nodes` are swapped."""
    meets = meets_bound(claim, figure)
    return {"kind": REST, "figure": figure, "nodes": nodes, "meets": meets, "beaten": not meets}


def random_control(claim: Claim, figure: float, drawn: Sequence[float]) -> Report:
    """Of the figures of random sets beside the claim's own `figure`."""
    best = float(min(drawn) if claim.at_most else max(drawn)) if len(drawn) == DRAWS else None
    return {
        "kind": RANDOM_SETS,
        "figure": best,
        "sets": len(drawn),
        "meet": sum(meets_bound(claim, each) for each in drawn),
        "beaten": best is not None and (figure < best if claim.at_most else figure > best),
    }


def rank_control(claim: Claim, differences: Masks, active: Masks) -> Report:
    """Of the size of the claim's nodes' differences.

    Args:
      claim: Of nodes of these sites.
      differences: Mean activation at the claim's positions minus that at the others, {site: [width]}.
      active: Which nodes are not 0 at all of these positions, {site: bool [width]}.
    """
    chance, worst, among, share, whole = 1.0, 0, 0, 0.0, 0.0
    for site, difference in differences.items():
        size = np.abs(difference) * active[site]
        own = [node.index for node in claim.nodes if node.site == site]
        alive = max(int(active[site].sum()), len(own))
        last = int((size >= size[own].min()).sum()) if active[site][own].all() else alive
        chance *= math.comb(last, len(own)) / math.comb(alive, len(own))
        worst, among = max(worst, last), among + alive
        share, whole = share + float((size[own] ** 2).sum()), whole + float((size**2).sum())
    return {
        "kind": RANK,
        "rank": worst,
        "among": among,
        "share": share / whole if whole else 0.0,
        "chance": chance,
        "beaten": chance <= CHANCE,
    }


def meets_bound(claim: Claim, figure: float) -> bool:
    """Whether a figure is on the asked side of the claim's bound."""
    return bool(figure <= claim.bound if claim.at_most else figure >= claim.bound)

"""From learned masks to a small circuit: searches over nodes (docs/method.md, "Pruning").

Each is a `search.Search` whose candidates are masks.
"""

from collections.abc import Callable, Mapping

import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.masks import Masks, Place, without
from circuits_jax.circuits.pruning.search import (
    Search,
    seek_longest,
    seek_needless,
    seek_smallest,
    translated,
)
from circuits_jax.config import ModelConfig
from circuits_jax.model.transformer import Params

FAR = 1 / 8  # share of the nodes that must go for another look by estimates


def first_holding(
    taus: Mapping[str, np.ndarray], importance: Masks, allowed: Masks
) -> Search[Masks, Masks | None]:
    """The first n nodes by tau, for the smallest n found to hold the target; None if no n does.

    Args:
      taus: {node site: [width]}.
      importance: {node site: [width]}, decides among nodes of equal tau; many are equal at the clamp.
      allowed: {node site: [width]}, 0 on nodes that are never taken.
    """
    flat = np.concatenate([np.asarray(tau) for tau in taus.values()])
    ties = np.concatenate([importance[site] for site in taus])
    order = np.lexsort((-ties, -flat))
    order = order[np.concatenate([allowed[site] for site in taus])[order] > 0]
    widths = [len(tau) for tau in taus.values()]

    def first(count: int) -> Masks:
        chosen = np.zeros(len(flat), np.float32)
        chosen[order[:count]] = 1
        return dict(zip(taus, np.split(chosen, np.cumsum(widths)[:-1]), strict=True))

    search = seek_smallest(int((flat >= 0).sum()), len(order))
    count = yield from translated(search, first)
    return None if count is None else first(count)


def drop_pathless(
    config: ModelConfig, params: Params, kept: Masks, answers: np.ndarray
) -> Search[Masks, Masks]:
    """Removes all nodes on no path from prompt to answer, repeatedly while the target holds.

    Args:
      config, params: The network, on the host.
      kept: {node site: float32 [width]}.
      answers: The task's answer tokens.
    """
    while True:
        live = graph.reached(config, params, kept)
        leads = graph.useful(config, params, kept, answers)
        pathless = [(site, i) for site, i in _places(kept) if not (live[site][i] and leads[site][i])]
        if not pathless:
            return kept
        smaller = without(kept, pathless)
        (miss,) = yield [smaller]
        if miss > 0:
            return kept
        kept = smaller


def drop_needless(kept: Masks, weigh: Callable[[Masks], Masks]) -> Search[Masks, Masks]:
    """Drops unneeded nodes: first by estimated importance, then by removing each one alone.

    Args:
      kept: {node site: float32 [width]}.
      weigh: kept -> {node site: [width]}, how much the loss is expected to rise without each node.
    """
    while True:
        importance = weigh(kept)
        places = sorted(_places(kept), key=lambda place: importance[place[0]][place[1]])
        gone = yield from seek_longest(kept, places)
        kept = without(kept, places[:gone])
        if gone <= len(places) * FAR:
            return (yield from seek_needless(kept, places[gone:]))


def _places(kept: Masks) -> list[Place]:
    return [(site, int(i)) for site, mask in kept.items() for i in np.flatnonzero(mask > 0)]

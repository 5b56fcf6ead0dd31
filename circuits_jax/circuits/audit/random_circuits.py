"""What a circuit is compared with: random circuits of its size, and random parts of itself.

All are stacks of masks, {site: float32 [S, width]}, drawn with a seed and without any loop over nodes.
"""

import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.masks import Masks, full_masks
from circuits_jax.config import ModelConfig
from circuits_jax.model.transformer import Params


def live_nodes(
    config: ModelConfig, params: Params, answers: np.ndarray, final: bool = False
) -> dict[str, np.ndarray]:
    """Masks of the nodes that lie on a path from the prompt to the logit of a token in `answers`.

    Args:
      config, params: The network, on the host.
      answers: Token ids.
      final: Whether the final residual stream has nodes too.
    """
    everything = full_masks(config, final=final)
    reached = graph.reached(config, params, everything)
    leads = graph.useful(config, params, everything, answers)
    return {site: (reached[site] & leads[site]).astype(np.float32) for site in everything}


def draw_circuits(live: Masks, size: int, draws: int, seed: int) -> dict[str, np.ndarray]:
    """`draws` sets of `size` live nodes each, wherever they lie; if there are fewer, others fill up."""
    rng = np.random.RandomState(seed)
    flat = np.concatenate(list(live.values()))
    return _split(_largest(_keys(rng, flat, draws), size), live)


def draw_matched(live: Masks, circuit: Masks, draws: int, seed: int) -> dict[str, np.ndarray]:
    """`draws` sets with as many nodes at every site as `circuit` has, live ones first."""
    rng = np.random.RandomState(seed)
    return {site: _largest(_keys(rng, mask, draws), int(circuit[site].sum())) for site, mask in live.items()}


def draw_parts(circuit: Masks, draws: int, seed: int) -> dict[str, np.ndarray]:
    """Random parts of `circuit`, from one node to half of them, sizes evenly spaced on a log scale."""
    rng = np.random.RandomState(seed)
    flat = np.concatenate(list(circuit.values()))
    sizes = np.geomspace(1, max(flat.sum() / 2, 1), draws).round().astype(int)
    return _split(_largest(_keys(rng, flat, draws), sizes[:, None]), circuit)


def overlaps(sets: Masks, circuit: Masks) -> np.ndarray:
    """Jaccard index [S] of each set [S, width] with `circuit`: nodes in both among the nodes in either."""
    shared = sum((sets[site] * circuit[site]).sum(axis=-1) for site in circuit)
    either = sum(np.maximum(sets[site], circuit[site]).sum(axis=-1) for site in circuit)
    return shared / np.maximum(either, 1)


def _keys(rng: np.random.RandomState, preferred: np.ndarray, draws: int) -> np.ndarray:
    """Random numbers [draws, width], all preferred ones above all others."""
    return rng.random_sample((draws, len(preferred))) + (preferred > 0)


def _largest(keys: np.ndarray, count: np.ndarray | int) -> np.ndarray:
    """1 on the `count` largest keys of each row."""
    ranks = np.argsort(np.argsort(-keys, axis=1), axis=1)
    return (ranks < count).astype(np.float32)


def _split(flat: np.ndarray, like: Masks) -> dict[str, np.ndarray]:
    cuts = np.cumsum([len(mask) for mask in like.values()])[:-1]
    return dict(zip(like, np.split(flat, cuts, axis=1), strict=True))

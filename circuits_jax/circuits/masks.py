"""Masks over nodes: {node site: float32 [width]}, 1 on kept nodes and 0 on removed ones.

Searches over edges use the same form, under a name of their own beside the sites (`pruning.ablator.EDGES`).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.config import ModelConfig
from circuits_jax.model import sites

Masks = dict[str, Any]
"""{name: array of 0 and 1}, the arrays numpy's or JAX's."""
Place = tuple[str, Any]
"""An array of the masks, and an index into it."""


def full_masks(config: ModelConfig, value: float = 1.0, final: bool = False) -> dict[str, np.ndarray]:
    """Masks that keep (1) or remove (0) every node; with `final`, of the final residual stream too."""
    widths = sites.node_sites(config, final)
    return {site: np.full(width, value, np.float32) for site, width in widths.items()}


def without(kept: Masks, places: Sequence[Place]) -> Masks:
    """A copy of `kept` that is 0 at `places`."""
    copy = {name: mask.copy() for name, mask in kept.items()}
    for name, index in places:
        copy[name][index] = 0
    return copy


def size(kept: Masks) -> int:
    """How many entries of `kept` are 1."""
    return int(sum(mask.sum() for mask in kept.values()))


def outside(masks: Masks) -> dict[str, jax.Array]:
    """Masks of the nodes that `masks` leaves out."""
    return {site: 1 - jnp.asarray(mask) for site, mask in masks.items()}


def stack(masks: Sequence[Masks]) -> dict[str, np.ndarray]:
    """Sets of masks as one: {site: float32 [S, width]}."""
    return {site: np.stack([np.asarray(each[site], np.float32) for each in masks]) for site in masks[0]}

"""Small functions that a forward pass calls at every site: replace, ablate, add, compose.

A tap is `f(site, x) -> x`, x of shape [batch, tokens, width].  Mean ablation, learned masks,
interchange, steering and bridge hand-over are all taps (ARCHITECTURE, idea 1).
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

Tap = Callable[[str, jax.Array], jax.Array]


def compose(*taps: Tap | None) -> Tap:
    """One tap that applies `taps` in order; None is skipped."""
    chosen = tuple(tap for tap in taps if tap is not None)

    def tap(site: str, x: jax.Array) -> jax.Array:
        for each in chosen:
            x = each(site, x)
        return x

    return tap


def replace(values: Mapping[str, jax.Array]) -> Tap:
    """Puts `values[site]` (broadcast to the site's shape) where a site has one."""

    def tap(site: str, x: jax.Array) -> jax.Array:
        return jnp.broadcast_to(values[site], x.shape).astype(x.dtype) if site in values else x

    return tap


def mix(masks: Mapping[str, jax.Array], others: Mapping[str, jax.Array]) -> Tap:
    """mask * x + (1 - mask) * other at every site that has a mask.

    With `others` the mean activations this is mean ablation (METHOD section 6, step 2); with another
    prompt's activations and a mask that is 0 on the swapped nodes, an interchange intervention.

    Args:
      masks: site -> [width] (or broadcastable), 1 where x is kept.
      others: site -> what stands in where the mask is 0, broadcastable to x.
    """

    def tap(site: str, x: jax.Array) -> jax.Array:
        if site not in masks:
            return x
        mask, other = masks[site].astype(x.dtype), others[site].astype(x.dtype)
        return mask * x + (1 - mask) * other

    return tap


def add(deltas: Mapping[str, jax.Array]) -> Tap:
    """Adds `deltas[site]` where a site has one (steering)."""

    def tap(site: str, x: jax.Array) -> jax.Array:
        return x + deltas[site].astype(x.dtype) if site in deltas else x

    return tap

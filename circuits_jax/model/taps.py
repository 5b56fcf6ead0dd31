"""Small functions that a forward pass calls at every site: replace, ablate, add, compose.

A tap is `f(site, x) -> x`, x of shape [batch, tokens, width].  Mean ablation, learned masks,
interchange, steering and bridge hand-over are all taps.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.storage.errors import check_kind

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

    With `others` the mean activations this is mean ablation (docs/method.md, "Pruning"); with another
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


@runtime_checkable
class KeptNodes(Protocol):
    """What the taps below need of a circuit (`circuits.circuit.Circuit` has it)."""

    @property
    def means(self) -> Mapping[str, Any]:
        """{node site: [width]}, what removed nodes are held at."""

    def masks(self) -> Mapping[str, Any]:
        """{node site: [width], 1 on kept nodes and 0 elsewhere}."""


def ablate(circuit: KeptNodes) -> Tap:
    """Holds the circuit's own nodes at their means, everywhere; the rest of the model runs on.

    A tap does not know what model it runs in, and an edited model is another one.  `circuit.check_model` asks
    whether a model is the circuit's own.
    """
    check_kind("the circuit", circuit, KeptNodes, "what run.prune or cj.load_circuit gave")
    return _held({site: 1 - np.asarray(mask) for site, mask in circuit.masks().items()}, circuit)


def only(circuit: KeptNodes) -> Tap:
    """Holds all other nodes at their means; edges between kept nodes that pruning cut are back.

    The circuit as it was saved, without those edges, runs on the parameters of
    `circuits.ablation.edge_removal.remove_edges`.
    """
    check_kind("the circuit", circuit, KeptNodes, "what run.prune or cj.load_circuit gave")
    return _held(circuit.masks(), circuit)


def _held(masks: Mapping[str, Any], circuit: KeptNodes) -> Tap:
    return mix(
        {site: jnp.asarray(mask) for site, mask in masks.items()},
        {site: jnp.asarray(mean) for site, mean in circuit.means.items()},
    )

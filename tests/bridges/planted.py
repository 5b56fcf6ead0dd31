"""A planted network bridged to itself by identities: every hybrid pass is then its own, and turning its type
neuron must flip its answers."""

import functools

import numpy as np

from circuits_jax.bridges.bridge import Bridge
from circuits_jax.bridges.evaluate import Joined
from circuits_jax.bridges.steering import Prompts
from circuits_jax.circuits.ablation import trim
from circuits_jax.circuits.planted import plant


@functools.cache
def planted():
    """The quotes network and 24 pairs of each split."""
    return plant("quotes", 5, 24, 24)


def itself():
    """The network joined to itself."""
    found = planted()
    sites, width = 2 * found.config.n_layer + 1, found.config.d_model
    linear = {
        "kernel": np.tile(np.eye(width, dtype=np.float32), (sites, 1, 1)),
        "bias": np.zeros((sites, width), np.float32),
    }
    bridge = Bridge(found.config, found.config, "abs_top_k", None)
    return Joined(bridge, found.params, found.params, {"encoder": linear, "decoder": dict(linear)})


def prompts(split="heldout"):
    """The network's pairs as arrays."""
    pairs = getattr(planted(), split)
    return Prompts(trim(pairs, planted().config.n_ctx), pairs.last, pairs.answers)

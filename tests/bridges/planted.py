"""A planted network bridged to itself by identities: every hybrid pass is then its own, and turning its type
neuron must flip its answers."""

import functools

import numpy as np

from circuits_jax.bridges.evaluation import Joined
from circuits_jax.bridges.model import Bridge
from circuits_jax.circuits.ablation.pairs import pair_batch
from circuits_jax.circuits.planted import plant


@functools.cache
def planted():
    """The quotes network and 24 pairs of each split."""
    return plant("quotes", 5, 24, 24, 24)


def itself():
    """The network joined to itself."""
    found = planted()
    sites, width = 2 * found.config.n_layer + 1, found.config.d_model
    linear = {
        "kernel": np.tile(np.eye(width, dtype=np.float32), (sites, 1, 1)),
        "bias": np.zeros((sites, width), np.float32),
    }
    bridge = Bridge(found.config, found.config, "abs_top_k", None)
    return Joined(bridge, found.model, found.model, {"encoder": linear, "decoder": dict(linear)})


def prompts(split="test"):
    """The network's pairs as arrays."""
    return pair_batch(getattr(planted().splits, split), planted().config.n_ctx)

"""Two tiny models, bridges between them and windows, with random weights."""

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.bridges.losses import BridgeLoss
from circuits_jax.bridges.model import init_bridge, make_bridge
from circuits_jax.config import TOPK_LOCATIONS, BridgeConfig, ModelConfig
from circuits_jax.model.transformer import Transformer, init_params

SMALL = {"n_layer": 1, "n_ctx": 6, "vocab_size": 20, "d_head": 4}
DENSE = ModelConfig(d_model=8, activation_fraction=None, bigram=False, **SMALL)
# AbsTopK on the residual stream alone: what bridges are about, and little to compile.
SPARSE = ModelConfig(d_model=12, activation_locations=TOPK_LOCATIONS[8:], **SMALL)
SMOOTH = ModelConfig(d_model=12, activation_fraction=None, **SMALL)
# Programs that run once: compiling them is nearly all the work.
_QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def jit(function, **options):
    """jax.jit with little optimisation."""
    return jax.jit(function, compiler_options=_QUICK, **options)


def scaled(params, factor=8.0):
    """Weights large enough that every part of the network matters."""
    return jax.tree.map(lambda leaf: leaf * factor if leaf.ndim > 1 else leaf + 0.1, params)


def make(config=BridgeConfig(), dense=DENSE, sparse=SPARSE, seed=0):  # noqa: B008
    """(BridgeLoss, trained parameters, frozen ones, windows int [2, 7])."""
    keys = jax.random.split(jax.random.PRNGKey(seed), 4)
    bridge = make_bridge(dense, sparse, config)
    params = {"bridges": init_bridge(bridge, keys[0]), "sparse": scaled(init_params(sparse, keys[1]))}
    frozen = {"dense": scaled(init_params(dense, keys[2]))}
    windows = jax.random.randint(keys[3], (2, dense.n_ctx + 1), 0, dense.vocab_size)
    return BridgeLoss(bridge, Transformer(dense), Transformer(sparse), config), params, frozen, windows


def softmax(logits):
    """numpy, float64."""
    logits = np.asarray(logits, np.float64)
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def norm(tree):
    """Euclidean norm of all leaves together."""
    return float(jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree))))

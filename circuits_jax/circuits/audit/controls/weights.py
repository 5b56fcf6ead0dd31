"""Networks that learnt nothing, like the model in size and sparsity (docs/statistics.md, "Controls").

Their means are their own.  Masks can make circuits out of noise: how many edges they need for it is what a
circuit of the trained model is compared with.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.model.model import Model
from circuits_jax.model.parameters import DENSE, SparsityRule
from circuits_jax.model.transformer import init_params
from circuits_jax.sparsity.projection import map_rules, project_mask

_initial = jax.jit(init_params, static_argnums=0)  # compiled whole, without the forward pass it runs along
_largest = jax.jit(project_mask, static_argnums=(2, 3))


def random_weights(model: Model, seed: int) -> Model:
    """Fresh parameters; each tensor and each unit keeps as many weights as in `model`.

    A tensor keeps its largest, exactly as many as there; no unit has fewer than the least of them has there.
    They are scaled to the root mean square of those there: at the scale of initialisation logits are so close
    together that masks could hardly reach a target.
    """
    fresh = jax.device_get(_initial(model.config, jax.random.key(seed)))

    def cut(rule: SparsityRule, new: np.ndarray, trained: Any) -> np.ndarray:
        if rule.kind == DENSE:
            return new
        there = np.asarray(trained) != 0
        floor = 0 if rule.floor_axis is None else int(there.sum(axis=rule.floor_axis).min())
        kept = _largest(new, jnp.int32(there.sum()), rule.floor_axis, floor)
        thinned = np.where(kept, new, 0)
        return thinned * np.float32(np.linalg.norm(trained) / (np.linalg.norm(thinned) or 1))

    return dataclasses.replace(model, params=map_rules(cut, fresh, dict(model.params)))


def shuffled_weights(model: Model, seed: int) -> Model:
    """`model` with the entries of every tensor that can be sparse in random order; the others stay.

    The bigram table stays: it is no part of any circuit.
    """
    rng = np.random.RandomState(seed)

    def shuffle(rule: SparsityRule, tensor: Any) -> np.ndarray:
        tensor = np.asarray(tensor)
        return tensor if rule.kind == DENSE else rng.permutation(tensor.ravel()).reshape(tensor.shape)

    return dataclasses.replace(model, params=map_rules(shuffle, dict(model.params)))

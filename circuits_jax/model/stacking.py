"""The layers of a parameter tree together: one branch of arrays [n_layer, ...] in place of one a layer.

A forward pass that shows nothing of single layers scans over such a branch, so that one layer is compiled,
whatever the depth.  Training may keep its state so (`mesh.scan_layers`).  On disk, and wherever single layers
are read, layers lie apart.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from circuits_jax.model.parameters import ALL_LAYERS, BLOCK, depth


def stack_layers(tree: Any, join: Callable[[Sequence[Any]], Any] = jnp.stack) -> Any:
    """`tree` with the layers of every parameter tree in it together.

    Args:
      tree: Parameters, an optimizer's state, or any tree that holds such.
      join: Makes one leaf of those of all layers, in their order; by default an array [n_layer, ...].
    """

    def together(params: Any) -> Any:
        if not _layers_apart(params):
            return params
        names = [BLOCK.format(layer=layer) for layer in range(depth(params))]
        stack = jax.tree.map(lambda *leaves: join(leaves), *(params[name] for name in names))
        return {name: branch for name, branch in params.items() if name not in names} | {ALL_LAYERS: stack}

    return jax.tree.map(together, tree, is_leaf=_layers_apart)


def unstack_layers(tree: Any) -> Any:
    """The inverse of `stack_layers`, of arrays; what has its layers apart is given back as it is."""

    def apart(params: Any) -> Any:
        if not layers_stacked(params):
            return params
        stack = params[ALL_LAYERS]
        layers = range(jax.tree.leaves(stack)[0].shape[0])
        branches = {
            BLOCK.format(layer=layer): jax.tree.map(lambda leaf, layer=layer: leaf[layer], stack)
            for layer in layers
        }
        return {name: branch for name, branch in params.items() if name != ALL_LAYERS} | branches

    return jax.tree.map(apart, tree, is_leaf=layers_stacked)


def layers_stacked(params: Any) -> bool:
    """Whether `params` is a parameter tree with its layers together."""
    return isinstance(params, Mapping) and ALL_LAYERS in params


def _layers_apart(params: Any) -> bool:
    return isinstance(params, Mapping) and depth(params) > 0

"""Keeping every tensor at its budget of nonzero entries (docs/method.md, "Weight sparsity").

The maths first (`project_mask`), then `keep_largest`, which makes an optax transformation of it, the last of
a chain: the training loop knows nothing of sparsity, and its state lies in the optimizer's, so that
checkpoints and sharding come free.  `model.parameters` says how each tensor is treated.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from circuits_jax.model import scopes
from circuits_jax.model.parameters import (
    BIAS,
    EMBEDDING,
    MATRIX,
    build_tree,
    named,
    of_all_layers,
    parameter_name,
    rule_for,
)
from circuits_jax.sparsity.schedules import L0Schedule
from circuits_jax.sparsity.search import Guess
from circuits_jax.sparsity.threshold import guessed_mask, largest_mask, largest_mask_along


def map_rules(function: Callable[..., Any], params: Any, *rest: Any) -> Any:
    """Maps function(rule, leaf, *leaves of rest) over a parameter tree."""
    return jax.tree_util.tree_map_with_path(
        lambda path, *leaves: function(rule_for(parameter_name(path)), *leaves), params, *rest
    )


def project_mask(w: Array, k: Array | int, floor_axis: int | None = None, j: int = 0) -> Array:
    """Marks the entries of w that stay: the k of largest magnitude, and at least j of every unit.

    The j largest of each unit come first, then the largest of the rest until k are marked: exactly
    max(k, what the floor needs), deterministic, ties by flat index (docs/method.md, "Weight sparsity").

    Args:
      w: Float array.
      k: int32 scalar budget, may be traced.
      floor_axis: The axis along which one unit's weights lie; None for no floor.
      j: Entries each unit keeps at least; all of them where it has fewer.

    Returns:
      bool array of w's shape.
    """
    k, protected = _with_floor(w, k, floor_axis, j)
    return largest_mask(w, k, first=protected)


def _with_floor(w: Array, k: Array | int, floor_axis: int | None, j: int) -> tuple[Array | int, Array | None]:
    """(how many entries stay, the mask of those that the floor protects), as `project_mask` has it."""
    if floor_axis is None or j == 0:
        return k, None
    needed = w.size // w.shape[floor_axis] * min(j, w.shape[floor_axis])
    return jnp.maximum(k, needed), largest_mask_along(w, j, floor_axis)


class KeepLargestState(NamedTuple):
    """State of `keep_largest`.

    Attributes:
      step: Updates made so far, int32.
      guesses: A `threshold.Guess` whose parts are trees, with a scalar for each sparse tensor, or [n_layer]
        for one of all layers: where its next search begins.  Guesses change no result.
    """

    step: Array
    guesses: Guess


def keep_largest(
    schedule: L0Schedule,
    floor: int = 0,
    sparse_biases: bool = True,
    sparse_embeddings: bool = True,
) -> optax.GradientTransformation:
    """Sets all but the largest entries of every sparse tensor to exact zero; the last of a chain.

    With p a tensor and u its update, the entries of largest |p + u| keep u and the others get -p, so that
    p + u is 0.  Nothing but the weights is touched: a zeroed weight comes back when it grows large enough.
    Of a tensor of all layers (`model.stacking`) each layer keeps its own.  The n-th update (from 1) uses
    schedule(n), traced, so that one compilation serves the whole anneal.

    Args:
      schedule: Step -> fraction and budget.
      floor: j, the entries that no neuron and no attention channel falls below.
      sparse_biases: Whether biases are projected.
      sparse_embeddings: Whether token and position embeddings and the unembedding are projected.

    Returns:
      An optax.GradientTransformation whose `update` needs `params`.

    Raises:
      ValueError: from `update`, for a parameter that no rule knows or without `params`.
    """
    sparse_kinds = [MATRIX] + [BIAS] * sparse_biases + [EMBEDDING] * sparse_embeddings

    def init(params: Any) -> KeepLargestState:
        # An unknown name fails here, before any work.
        sparse = {name: leaf for name, leaf in named(params).items() if rule_for(name).kind in sparse_kinds}
        sizes = {name: leaf.shape[:1] if of_all_layers(name) else () for name, leaf in sparse.items()}
        sizes = sizes if schedule.target < 1 else {}
        cuts = build_tree((name, jnp.zeros(size, jnp.uint32)) for name, size in sizes.items())
        gaps = build_tree((name, jnp.zeros(size, jnp.float32)) for name, size in sizes.items())
        return KeepLargestState(jnp.zeros((), jnp.int32), Guess(cuts, gaps))

    def update(updates: Any, state: KeepLargestState, params: Any = None) -> tuple[Any, KeepLargestState]:
        if params is None:
            raise ValueError("keep_largest needs the parameters: call update(updates, state, params)")
        step = optax.safe_increment(state.step)

        def project(name: str, p: Array, u: Array, guess: Guess) -> tuple[Array, Guess]:
            rule = rule_for(name)

            def of_one(p: Array, u: Array, guess: Guess) -> tuple[Array, Guess]:
                new = (p + u).astype(p.dtype)
                k, protected = _with_floor(new, schedule.budget(step, p.size), rule.floor_axis, floor)
                keep, guess = guessed_mask(new, k, guess, first=protected)
                return jnp.where(keep, u, -p.astype(u.dtype)), guess

            if of_all_layers(name):  # one after another: under vmap a cond would run both branches
                return lax.map(lambda layer: of_one(*layer), (p, u, guess))
            return of_one(p, u, guess)

        def thin(updates: Any, guesses: Guess) -> tuple[Any, Guess]:
            weights, moves, cuts, gaps = map(named, (params, updates, *guesses))
            found = {}
            for name in cuts:
                moves[name], found[name] = project(
                    name, weights[name], moves[name], Guess(cuts[name], gaps[name])
                )
            parts = (build_tree((name, each[i]) for name, each in found.items()) for i in range(2))
            return build_tree(moves.items()), Guess(*parts)

        # An update narrower than its parameter could not hold -p exactly.
        updates = jax.tree.map(lambda p, u: u.astype(jnp.promote_types(p.dtype, u.dtype)), params, updates)
        guesses = state.guesses
        if schedule.target < 1:
            thinned = schedule(step) < 1
            with scopes.part(scopes.PROJECTION):
                updates, guesses = lax.cond(thinned, thin, lambda *same: same, updates, guesses)
        return updates, KeepLargestState(step, guesses)

    return optax.GradientTransformation(init, update)

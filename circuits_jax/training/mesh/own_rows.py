"""Functions of a batch that each CPU device computes for its own rows."""

from collections.abc import Callable
from typing import Any

import jax
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec

from circuits_jax.config.mesh import DATA
from circuits_jax.model.placement import on, spread
from circuits_jax.model.target import target


def of_own_rows(f: Callable[..., Any], averaged: bool) -> Callable[..., Any]:
    """`f(params, rows, frozen)`, by each of several CPU devices that split the rows alone for its own rows.

    What a device has to itself it takes in blocks that stay in its cache (`model.blocks`); of an array that
    is spread over devices it cannot (`model.placement` has the mesh).

    Args:
      f: Of rows [B, ...].
      averaged: Whether what it gives is a mean over the rows, every row weighing the same; else its arrays
        have a first axis of rows.
    """

    def each(params: Any, rows: jax.Array, frozen: Any) -> Any:
        mesh = spread()
        if mesh is None or mesh.shape[DATA] != mesh.size or target().platform != "cpu":
            return f(params, rows, frozen)

        def own(params: Any, rows: jax.Array, frozen: Any) -> Any:
            with on(None):
                found = f(params, rows, frozen)
            if not averaged:
                return found
            # One exchange: each blocks a thread, and several at once could block all there are.
            flat, tree_of = ravel_pytree(found)
            return tree_of(jax.lax.pmean(flat, DATA))

        whole, split = PartitionSpec(), PartitionSpec(DATA)
        return jax.shard_map(
            own,
            mesh=mesh,
            in_specs=(whole, split, whole),
            out_specs=whole if averaged else split,
            check_vma=False,
        )(params, rows, frozen)

    return each

"""Functions of a batch that each CPU device computes for its own rows."""

from collections.abc import Callable
from typing import Any

import jax
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec

from circuits_jax.config.mesh import DATA


def of_own_rows(f: Callable[..., Any], averaged: bool) -> Callable[..., Any]:
    """`f(params, rows, frozen)`, which several CPU devices that split the rows alone compute each for its own.

    What a device has to itself it takes in blocks that stay in its cache (`model.blocks`); of an array that is
    spread over devices it cannot.  The devices are those of the mesh in whose context `f` is traced
    (`jax.set_mesh`).

    Args:
      f: Of rows [B, ...].
      averaged: Whether what it gives is a mean over the rows, every row weighing the same; else its arrays
        have a first axis of rows.
    """

    def spread(params: Any, rows: jax.Array, frozen: Any) -> Any:
        mesh = jax.sharding.get_abstract_mesh()
        if mesh.empty or mesh.size == 1 or mesh.shape.get(DATA) != mesh.size or not _are_cpus():
            return f(params, rows, frozen)

        def own(params: Any, rows: jax.Array, frozen: Any) -> Any:
            found = f(params, rows, frozen)
            if not averaged:
                return found
            # One exchange: each blocks a thread, and several at once could block all there are.
            flat, tree_of = ravel_pytree(found)
            return tree_of(jax.lax.pmean(flat, DATA))

        whole, split = PartitionSpec(), PartitionSpec(DATA)
        return jax.shard_map(
            own,
            in_specs=(whole, split, whole),
            out_specs=whole if averaged else split,
            check_vma=False,
        )(params, rows, frozen)

    return spread


def _are_cpus() -> bool:
    return jax.default_backend() == "cpu"

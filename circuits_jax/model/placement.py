"""Where activations lie on a mesh: each device has its rows of the batch, and its heads, neurons and tokens.

Without this the compiler lets split weights spread their sharding to the activations that they touch: these
are then gathered, and devices work on whole batches.  Weights are gathered instead, where they are needed.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from circuits_jax.config.mesh import DATA, FSDP, MODEL

P = ParamSpec("P")
R = TypeVar("R")
_MESH: contextvars.ContextVar[Mesh | None] = contextvars.ContextVar("mesh of activations", default=None)


def spread() -> Mesh | None:
    """The mesh of several devices that activations are spread over in what is traced; None for no such."""
    mesh = _MESH.get()
    return None if mesh is None or mesh.size == 1 else mesh


@contextlib.contextmanager
def on(mesh: Mesh | None) -> Iterator[None]:
    """What is traced within the block has its activations on `mesh`, or on one device where that is None."""
    token = _MESH.set(mesh)
    try:
        yield
    finally:
        _MESH.reset(token)


def placing(function: Callable[P, R], mesh: Mesh) -> Callable[P, R]:
    """`function`, whose activations lie on `mesh` as `by_rows` and `by_parts` say when it is traced."""

    @functools.wraps(function)
    def placed(*args: P.args, **kwargs: P.kwargs) -> R:
        with on(mesh):
            return function(*args, **kwargs)

    return placed


def by_rows(x: jax.Array) -> jax.Array:
    """x [B, ...] with the batch split and all else whole on each device; x itself where there is no mesh."""
    return _placed(x, {0: (DATA, FSDP)})


def by_parts(x: jax.Array, axis: int) -> jax.Array:
    """x [B, ...] with the batch split, and `axis`, of heads, neurons or the vocabulary, over MODEL."""
    return _placed(x, {0: (DATA, FSDP), axis % x.ndim: (MODEL,)})


def table(x: jax.Array, split: bool = False) -> jax.Array:
    """A table [rows, columns] that rows are looked up in: gathered, for which tokens need not be.

    Args:
      x: The table.
      split: Whether its columns, of the vocabulary, stay split over MODEL.
    """
    return _placed(x, {1: (MODEL,)} if split else {})


def _placed(x: jax.Array, axes: dict[int, tuple[str, ...]]) -> jax.Array:
    mesh = spread()
    if mesh is None:
        return x
    spec: list[Any] = [None] * x.ndim
    for place, names in axes.items():
        if x.shape[place] % math.prod(mesh.shape[name] for name in names):
            spec[place] = PartitionSpec.UNCONSTRAINED  # fewer heads than devices: as the compiler likes
        else:
            spec[place] = names
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(*spec)))

"""Where activations lie on a mesh: each device has its rows of the batch, and its heads, neurons and tokens.

Without this the compiler lets split weights spread their sharding to the activations that they touch: these
are then gathered, and devices work on whole batches.  Weights are gathered instead, where they are needed.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from circuits_jax.config.mesh import DATA, FSDP, MODEL
from circuits_jax.model import kernels
from circuits_jax.model.target import target

P = ParamSpec("P")
R = TypeVar("R")
Axes = Mapping[int, tuple[str, ...]]
"""{axis of an array, from the end if negative: the mesh's axes that split it}."""
ROWS: Axes = {0: (DATA, FSDP)}
PARTS: Axes = {**ROWS, -1: (MODEL,)}
HEADS: Axes = {**ROWS, 1: (MODEL,)}
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


def placing(function: Callable[P, R], mesh: Mesh, choice: str = kernels.AUTO) -> Callable[P, R]:
    """`function`, whose activations lie on `mesh` as `by_rows` and `by_parts` say when it is traced.

    Args:
      function: It.
      mesh: The devices.
      choice: Its kernels, as `mesh.kernels` has them.
    """

    @functools.wraps(function)
    def placed(*args: P.args, **kwargs: P.kwargs) -> R:
        with on(mesh), kernels.using(choice):
            return function(*args, **kwargs)

    return placed


def by_rows(x: jax.Array) -> jax.Array:
    """x [B, ...] with the batch split and all else whole on each device; x itself where there is no mesh."""
    return _placed(x, ROWS)


def by_parts(x: jax.Array, axis: int) -> jax.Array:
    """x [B, ...] with the batch split, and `axis`, of heads, neurons or the vocabulary, over MODEL."""
    return _placed(x, {**ROWS, axis: (MODEL,)})


def table(x: jax.Array, split: bool = False) -> jax.Array:
    """A table [rows, columns] that rows are looked up in: gathered, for which tokens need not be.

    Args:
      x: The table.
      split: Whether its columns, of the vocabulary, stay split over MODEL.
    """
    return _placed(x, {1: (MODEL,)} if split else {})


def alone() -> bool:
    """Whether each array of what is traced lies on one device, or is one device's own part.

    Outside of a mesh that is known of CPUs, of which we place nothing elsewhere, of a single device, and of
    what `jax.shard_map` splits in all axes.
    """
    mesh = _MESH.get()
    if mesh is not None:
        return mesh.size == 1
    around = jax.sharding.get_abstract_mesh()
    if around.axis_names and set(around.manual_axes) == set(around.axis_names):
        return True
    return target().platform == "cpu" or target().number == 1


def splits(axis: int, axes: Axes) -> bool:
    """Whether several devices share `axis` of what lies as `axes` says."""
    mesh = spread()
    return mesh is not None and _parts(mesh, axes.get(axis, ())) > 1


def each_has_its_own(arrays: Sequence[jax.Array], axes: Sequence[Axes]) -> bool:
    """Whether it can be told which parts of arrays, which lie as `axes` say, each device has."""
    if alone():
        return True
    mesh = spread()
    return mesh is not None and not any(
        x.shape[axis] % _parts(mesh, names)
        for x, split in zip(arrays, axes, strict=True)
        for axis, names in split.items()
    )


def by_device(f: Callable[..., Any], arrays: Sequence[jax.Array], axes: Sequence[Axes], result: Axes) -> Any:
    """`f(*arrays)`, each device computing it of its own parts; None where these cannot be told.

    Where devices have the same part of an array, a gradient through it is added up over them.

    Args:
      f: Of arrays, or of parts of them, whose result, an array or several, is that part of the result; it has
        as many axes as the first of them.
      arrays: What it is given.
      axes: How each of them lies on the mesh.
      result: How the result lies there.
    """
    if alone():
        return f(*arrays)
    mesh = spread()
    if mesh is None or not each_has_its_own(arrays, axes):
        return None

    def own(*parts: jax.Array) -> Any:
        with on(None):
            return f(*parts)

    given = tuple(PartitionSpec(*_spec(x.ndim, split)) for x, split in zip(arrays, axes, strict=True))
    made = PartitionSpec(*_spec(arrays[0].ndim, result))
    return jax.shard_map(own, mesh=mesh, in_specs=given, out_specs=made, check_vma=False)(*arrays)


def _placed(x: jax.Array, axes: Axes) -> jax.Array:
    mesh = spread()
    if mesh is None:
        return x
    spec = _spec(x.ndim, axes)
    for axis, names in axes.items():
        if x.shape[axis] % _parts(mesh, names):
            spec[axis] = PartitionSpec.UNCONSTRAINED  # fewer heads than devices: as the compiler likes
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(*spec)))


def _spec(dimensions: int, axes: Axes) -> list[Any]:
    spec: list[Any] = [None] * dimensions
    for axis, names in axes.items():
        spec[axis] = names
    return spec


def _parts(mesh: Mesh, names: tuple[str, ...]) -> int:
    return math.prod(mesh.shape[name] for name in names)

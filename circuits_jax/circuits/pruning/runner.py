"""The engine: many masks through one network in one compiled program, over all devices.

Items lie on the first axis of a mesh, RUNS; what is left of the devices splits each item's pairs, on PAIRS.
Within a device the items are vmapped or taken in turn (`prune.batching`): a vmap was slower on CPU, partly
because `lax.cond` becomes both of its branches.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from circuits_jax.config import BATCHINGS
from circuits_jax.config.checks import check_choice
from circuits_jax.model.target import target

AT_ONCE = 16  # items of one device in one call of `Runner.in_rounds`

RUNS, PAIRS = "runs", "pairs"


def choose_batching(batching: str) -> str:
    """ "vmap" or "map"; "auto" is "map" on CPU and "vmap" elsewhere.

    Raises:
      ConfigError: for any other choice.
    """
    check_choice("prune.batching", batching, BATCHINGS)
    if batching == "auto":
        return "map" if target().platform == "cpu" else "vmap"
    return batching


def split_devices(devices: Sequence[jax.Device], runs: int, pairs: int = 0) -> Mesh:
    """The devices as a mesh of RUNS x PAIRS.

    Args:
      devices: As many of them are used as `axis_sizes` says.
      runs, pairs: See `axis_sizes`.
    """
    along, parts = axis_sizes(len(devices), runs, pairs)
    kinds = (AxisType.Auto,) * 2
    return jax.make_mesh((along, parts), (RUNS, PAIRS), axis_types=kinds, devices=devices[: along * parts])


def axis_sizes(devices: int, runs: int, pairs: int = 0) -> tuple[int, int]:
    """Devices along RUNS and PAIRS: of the most devices that can be shared out evenly, as many along RUNS as
    divide both the runs and the devices.

    Args:
      devices: How many there are.
      runs: Divided by the devices along RUNS.
      pairs: Of one run, divided by those along PAIRS; 0 is divided by every number.
    """
    for used in range(devices, 1, -1):
        along = math.gcd(runs, used)
        if pairs % (used // along) == 0:
            return along, used // along
    return 1, 1


def replicate(arrays: Any, devices: Sequence[jax.Device]) -> Any:
    """The arrays on every one of `devices`, so that no call has to copy them there."""
    mesh = split_devices(devices, len(devices))
    return jax.device_put(arrays, NamedSharding(mesh, PartitionSpec()))


class Runner:
    """`f(shared, item) -> result` for many items in one compiled program: many masks, one network.

    Pruning's fits, its probes of candidates and the audit's interventions all run on it.

    Args:
      f: Of arrays.  With `pairs` it sees one part of an item's devices, and may use the axis PAIRS.
      devices: To spread over.
      batching: Of `prune.batching`.
      pairs: Of each item, if devices that do not divide the number of items are to split the items' pairs;
        by default all devices take whole items.

    Raises:
      ConfigError: for an unknown batching.
    """

    def __init__(
        self,
        f: Callable[[Any, Any], Any],
        devices: Sequence[jax.Device],
        batching: str,
        pairs: int | None = None,
    ):
        self._f, self._devices, self._pairs = f, tuple(devices), pairs
        self._batching = choose_batching(batching)
        self._programs: dict[tuple[int, ...], _Program] = {}

    @property
    def compilations(self) -> int:
        """How many times `f` was compiled."""
        return sum(program.compilations for program in self._programs.values())

    def __call__(self, shared: Any, items: Sequence[Any], together: int | None = None) -> list[Any]:
        """Results in the order of `items`, as numpy arrays.

        Args:
          shared: What `f` takes beside each item.
          items: Trees of arrays of equal shapes.
          together: How many items decide how the devices are split, by default all of them; rounding
            depends on it.
        """
        if not items:
            return []
        return self._program(together or len(items))(shared, items)

    def lower(self, shared: Any, item: Any, number: int) -> Any:
        """What a call with `number` items compiles, lowered and not run (`jax.stages.Lowered`).

        Args:
          shared: ShapeDtypeStructs of what `f` takes beside each item.
          item: ShapeDtypeStructs of one item.
          number: Of items.
        """
        return self._program(number).lower(shared, item, number)

    def in_rounds(self, shared: Any, items: Sequence[Any]) -> list[Any]:
        """The same, a bounded number of items a call: few capacities are compiled, and memory is bounded."""
        most = AT_ONCE * len(self._devices)
        rounds = [self(shared, items[start : start + most]) for start in range(0, len(items), most)]
        return [result for results in rounds for result in results]

    def _program(self, together: int) -> "_Program":
        """The program of calls in which so many items decide how the devices are split."""
        runs = len(self._devices) if self._pairs is None else together
        mesh = split_devices(self._devices, runs, self._pairs or 0)
        shape = mesh.devices.shape
        if shape not in self._programs:
            self._programs[shape] = _Program(self._f, mesh, self._batching)
        return self._programs[shape]


class _Program:
    """A Runner's function on one mesh, compiled once for each capacity."""

    def __init__(self, f: Callable[[Any, Any], Any], mesh: Mesh, batching: str):
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._devices, self._least = mesh.shape[RUNS], 16 if batching == "map" else 1
        over_runs = PartitionSpec(RUNS)

        def local(shared: Any, items: Any, count: jax.Array) -> Any:
            one = jax.jit(lambda item: f(shared, item), inline=True)  # traced once, wherever it stands
            return jax.vmap(one)(items) if batching == "vmap" else _map_first(one, items, count[0])

        self._compiled = jax.jit(
            jax.shard_map(
                local,
                mesh=mesh,
                in_specs=(PartitionSpec(), over_runs, over_runs),
                out_specs=over_runs,
                check_vma=False,
            ),
        )

    @property
    def compilations(self) -> int:
        """How many times `f` was compiled."""
        return self._compiled._cache_size()

    def __call__(self, shared: Any, items: Sequence[Any]) -> list[Any]:
        places, counts, rows = self._deal(len(items))

        def stack(*leaves: Any) -> np.ndarray:
            first = np.asarray(leaves[0])
            stacked = np.zeros((rows, *first.shape), first.dtype)
            stacked[places] = leaves
            return stacked

        shared = jax.device_put(shared, self._everywhere)  # no copy where it is already
        results = jax.device_get(self._compiled(shared, jax.tree.map(stack, *items), counts))
        return [jax.tree.map(lambda x, at=at: x[at], results) for at in places]

    def lower(self, shared: Any, item: Any, number: int) -> Any:
        """What a call with `number` items compiles, of ShapeDtypeStructs."""
        _, counts, rows = self._deal(number)

        def whole(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._everywhere)

        def stacked(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((rows, *leaf.shape), leaf.dtype)

        shared, items = jax.tree.map(whole, shared), jax.tree.map(stacked, item)
        return self._compiled.lower(shared, items, jax.ShapeDtypeStruct(counts.shape, counts.dtype))

    def _deal(self, number: int) -> tuple[np.ndarray, np.ndarray, int]:
        """(row of each item, items of each device, rows): items are dealt to the devices in turn."""
        each = -(-number // self._devices)
        capacity = max(1 << (each - 1).bit_length(), self._least)
        at = np.arange(number)
        places = (at % self._devices) * capacity + at // self._devices
        return places, np.bincount(at % self._devices, minlength=self._devices), self._devices * capacity


def _map_first(f: Callable[[Any], Any], items: Any, count: jax.Array) -> Any:
    """`f` of the first `count` items, one after the other; zeros for the rest."""
    first = jax.tree.map(lambda x: x[0], items)
    rows = jax.tree.leaves(items)[0].shape[0]
    blank = jax.tree.map(lambda x: jnp.zeros((rows, *x.shape), x.dtype), jax.eval_shape(f, first))

    def put(i: jax.Array, results: Any) -> Any:
        result = f(jax.tree.map(lambda x: x[i], items))
        return jax.tree.map(lambda all_, one: all_.at[i].set(one), results, result)

    return jax.lax.fori_loop(0, count, put, blank)

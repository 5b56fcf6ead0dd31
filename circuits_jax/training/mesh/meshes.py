"""The devices of a run as a mesh of three axes, and how batches lie on it.

`data` splits the batch; `fsdp` splits the batch and the large tensors, each device fetching what it needs
when it needs it; `model` splits heads, neurons and the vocabulary.  How parameters lie: `training.partition`.
"""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from circuits_jax.config import MeshConfig
from circuits_jax.config.mesh import AXES, DATA, FSDP
from circuits_jax.storage.errors import ConfigError


def make_mesh(
    config: MeshConfig, batch_size: int | None = None, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """The devices, of all processes, as the mesh that `config` asks for.

    Args:
      config: The axes.
      batch_size: Rows that are to be split over the mesh: an axis of -1 takes as many devices as divide them.
        None takes them all.
      devices: Those of a machine that is not at hand, to compile for; by default all that JAX has.

    Raises:
      ConfigError: if the axes do not come out at the number of devices, or do not divide the rows.
    """
    devices = jax.devices() if devices is None else list(devices)
    processes = len({each.process_index for each in devices})
    sizes = axis_sizes(config, len(devices), batch_size, processes)
    used = math.prod(sizes)
    if used < len(devices):  # as many of each process, which has to take part
        ranks = [
            sum(other.process_index == each.process_index for other in devices[:at])
            for at, each in enumerate(devices)
        ]
        devices = [each for each, rank in zip(devices, ranks, strict=True) if rank < used // processes]
    # Explicit axes, the default of make_mesh, would want every intermediate's sharding spelled out.
    return Mesh(_arranged(sizes, devices), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _arranged(sizes: tuple[int, int, int], devices: Sequence[jax.Device]) -> np.ndarray:
    """The devices [data, fsdp, model], those that share an axis near each other.

    Slices, which a slower network joins, share the batch alone: each has its own part of `data`.

    Raises:
      ConfigError: if they do not divide `data`.
    """
    slices: dict[int, list[jax.Device]] = {}
    for each in devices:
        slices.setdefault(getattr(each, "slice_index", None) or 0, []).append(each)
    data, fsdp, model = sizes
    if len(slices) > 1:
        if data % len(slices):
            raise ConfigError(
                f"mesh.data comes out at {data}, which {len(slices)} slices do not divide: they share the "
                f"batch alone; make mesh.data, and the batch, a multiple of {len(slices)}"
            )
        within = data // len(slices), fsdp, model
        return np.concatenate([_arranged(within, slices[number]) for number in sorted(slices)])
    try:
        return np.asarray(jax.make_mesh(sizes, AXES, devices=devices).devices)
    except (AssertionError, NotImplementedError, ValueError):  # it knows no placement, of a part of a slice
        found = np.empty(len(devices), object)
        found[:] = devices
        return found.reshape(sizes)


def axis_sizes(
    config: MeshConfig, devices: int, batch_size: int | None = None, processes: int = 1
) -> tuple[int, int, int]:
    """Devices along each of AXES; together at most `devices`, and fewer only where an axis of -1 has to leave
    some out because they do not divide the rows.

    Args:
      config: The axes.
      devices: How many there are, of all processes.
      batch_size: See `make_mesh`.
      processes: That the devices are of; the same number of each is used.

    Raises:
      ConfigError: as `make_mesh` does.
    """
    sizes = (config.data, config.fsdp, config.model)
    given = math.prod(size for size in sizes if size != -1)
    if devices % given or (-1 not in sizes and given != devices):
        wanted = ", ".join(f"mesh.{axis} {size}" for axis, size in zip(AXES, sizes, strict=True))
        raise ConfigError(
            f"{wanted} does not divide the {devices} devices; "
            f"make the product {devices}, or leave one of them at -1"
        )

    def filled(count: int) -> tuple[int, int, int]:
        data, fsdp, model = (count if size == -1 else size for size in sizes)
        return data, fsdp, model

    most = devices // given
    if batch_size is None:
        return filled(most)
    for count in range(most, 0, -1):
        found = filled(count)
        ways = found[0] * found[1] * config.accumulate
        if batch_size % ways == 0 and math.prod(found) % processes == 0:
            return found
    data, fsdp, _ = filled(1 if processes == 1 else most)
    what = f"{data * fsdp} devices (mesh.data x mesh.fsdp)"
    what += f" times mesh.accumulate {config.accumulate}" if config.accumulate > 1 else ""
    raise ConfigError(
        f"train.batch_size is {batch_size}, which {what} do not divide; "
        f"make it a multiple of {data * fsdp * config.accumulate}"
    )


def rows(mesh: Mesh) -> NamedSharding:
    """The first axis split over all devices but those along `model`."""
    return NamedSharding(mesh, PartitionSpec((DATA, FSDP)))


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def local_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """Numbers of the rows of a batch that this process' devices work on, ascending, int [R].

    Processes whose devices differ only along `model` have the same ones.
    """
    indices = rows(mesh).addressable_devices_indices_map((batch_size,)).values()
    spans = {(index[0].start or 0, index[0].stop or batch_size) for index in indices}
    return np.concatenate([np.arange(start, stop) for start, stop in sorted(spans)])


def put_rows(local: np.ndarray, numbers: np.ndarray, batch_size: int, sharding: NamedSharding) -> jax.Array:
    """The global batch, of which every process gives the rows of its own devices.

    Args:
      local: [R, ...], this process' rows.
      numbers: Their numbers, from `local_rows`.
      batch_size: Rows of the global batch.
      sharding: From `rows`.
    """
    if jax.process_count() == 1:
        return jax.device_put(local, sharding)

    def part(index: tuple[slice, ...]) -> np.ndarray:
        start, stop = index[0].start or 0, index[0].stop or batch_size
        first = int(np.searchsorted(numbers, start))
        return local[first : first + stop - start]

    return jax.make_array_from_callback((batch_size, *local.shape[1:]), sharding, part)

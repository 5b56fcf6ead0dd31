"""The devices of a run as a mesh of three axes, and how batches lie on it.

`data` splits the batch; `fsdp` splits the batch and the large tensors, each device fetching what it needs
when it needs it; `model` splits heads, neurons and the vocabulary.  How parameters lie: `training.partition`.
"""

import math

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from circuits_jax.config import MeshConfig
from circuits_jax.config.mesh import AXES, DATA, FSDP
from circuits_jax.storage.errors import ConfigError


def make_mesh(config: MeshConfig) -> Mesh:
    """All devices, of all processes, as the mesh that `config` asks for.

    Raises:
      ConfigError: if the axes do not come out at the number of devices.
    """
    sizes = [config.data, config.fsdp, config.model]
    devices = jax.device_count()
    given = math.prod(size for size in sizes if size != -1)
    if devices % given or (-1 not in sizes and given != devices):
        wanted = ", ".join(f"mesh.{axis} {size}" for axis, size in zip(AXES, sizes, strict=True))
        raise ConfigError(
            f"{wanted} does not divide the {devices} devices at hand; "
            f"make the product {devices}, or leave one of them at -1"
        )
    return _mesh(tuple(devices // given if size == -1 else size for size in sizes))


def data_mesh(batch_size: int, field: str = "train.batch_size") -> Mesh:
    """All devices along the data axis.

    Raises:
      ConfigError: if the devices do not divide `batch_size` rows, the setting `field`.
    """
    mesh = _mesh((jax.device_count(), 1, 1))
    check_batch(mesh, batch_size, field)
    return mesh


def check_batch(mesh: Mesh, batch_size: int, field: str = "train.batch_size", parts: int = 1) -> None:
    """Raises ConfigError unless each of `parts` of `batch_size` rows can be split evenly over the mesh."""
    ways = mesh.shape[DATA] * mesh.shape[FSDP]
    if batch_size % (ways * parts):
        what = f"{ways} devices (mesh.data x mesh.fsdp)"
        what += f" times mesh.accumulate {parts}" if parts > 1 else ""
        raise ConfigError(
            f"{field} is {batch_size}, which {what} do not divide; make it a multiple of {ways * parts}"
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


def _mesh(sizes: tuple[int, ...]) -> Mesh:
    # Explicit axes, the default of make_mesh, would want every intermediate's sharding spelled out.
    return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES))

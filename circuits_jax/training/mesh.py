"""The devices of a run as a mesh, and how arrays lie on it."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from circuits_jax.errors import ConfigError

DATA = "data"


def data_mesh(batch_size: int, field: str = "train.batch_size") -> Mesh:
    """All devices along one data axis.

    Raises:
      ConfigError: if the devices do not divide `batch_size` rows, the setting `field`.
    """
    devices = jax.device_count()
    if batch_size % devices:
        raise ConfigError(
            f"{field} is {batch_size}, which {devices} devices do not divide; make it a multiple of {devices}"
        )
    return jax.make_mesh((devices,), (DATA,), axis_types=(AxisType.Auto,))


def rows(mesh: Mesh) -> NamedSharding:
    """The first axis split over the data axis of the mesh."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())

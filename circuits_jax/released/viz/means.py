"""What published circuits hold removed nodes at: `mean_baseline_pretrain.pt`, beside their folders."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from circuits_jax.circuits.ablation.means import Means, reference_sites
from circuits_jax.config import ModelConfig
from circuits_jax.model.sites import may_have_nodes
from circuits_jax.released.listing import listed
from circuits_jax.released.remote import LEVELS
from circuits_jax.released.torch_files.read import read_torch_file
from circuits_jax.storage.errors import CheckpointError, CircuitError
from circuits_jax.storage.paths import as_path, exists

PUBLISHED = "mean_baseline_pretrain.pt"
# Circuits are published as viz/MODEL/TASK/SWEEP/K/viz_data.pt, the means of the model as viz/MODEL/PUBLISHED.


def means_of(path: Path, config: ModelConfig, final: bool, given: Means | str | Path | None) -> Means | None:
    """The means for the circuit in `path`: those given, else those published with it, else None.

    A published file that does not fit is left, which is told.

    Raises:
      CircuitError: if the means given do not fit the model.
      CheckpointError: if the file given cannot be read.
    """
    if isinstance(given, str | Path):
        return read_means(given, config, final)
    if given is not None:
        return _fitted(given, config, final, "means")
    folders = [path.parent, *as_path(path).parent.parents][:LEVELS]
    found = next((folder / PUBLISHED for folder in folders if exists(folder / PUBLISHED)), None)
    if found is None:
        return None
    try:
        return read_means(found, config, final)
    except (CheckpointError, CircuitError) as error:
        warnings.warn(f"{error}; it is left aside: give means to hold removed nodes at", stacklevel=3)
        return None


def read_means(path: str | Path, config: ModelConfig, final: bool = True) -> dict[str, np.ndarray]:
    """The means in a file of {site: tensor [width], or [1, ..., 1, width]}, a torch file.

    Args:
      path: The file.
      config: Of the model.
      final: Whether the final residual stream has nodes.

    Returns:
      {site of `reference_sites`: float32 [width]}; `attn.y` is 0 where the file has none: only removed edges
      carry it, and published circuits have none.

    Raises:
      CircuitError: if a node site is missing, of another width or holds what is no finite number; sites that
        are not asked for are left.
      CheckpointError: if the file cannot be read.
    """
    raw = read_torch_file(as_path(path))
    if not isinstance(raw, Mapping):
        raise CircuitError(f"{path} holds no means: no table from sites to tensors")
    return _fitted(raw, config, final, path)


def _fitted(
    raw: Mapping[Any, Any], config: ModelConfig, final: bool, path: str | Path
) -> dict[str, np.ndarray]:
    """The means of the sites of a model, each as one vector."""
    widths = reference_sites(config, final)
    missing = [site for site in widths if site not in raw and may_have_nodes(site)]
    if missing:
        raise CircuitError(f"{path} has no means of {listed(missing)}; it is of another model or schema")
    return {
        site: _vector(raw.get(site, np.zeros(width)), site, width, path) for site, width in widths.items()
    }


def _vector(value: Any, site: str, width: int, path: str | Path) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype == object or array.size != width or array.shape[-1:] != (width,):
        raise CircuitError(f"{path}: the mean of {site} is of shape {list(array.shape)}, not [{width}]")
    mean = array.reshape(width).astype(np.float32)
    if not np.isfinite(mean).all():
        raise CircuitError(f"{path}: the mean of {site} holds NaN or infinity; it is damaged")
    return mean

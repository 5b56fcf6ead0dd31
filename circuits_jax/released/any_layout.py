"""One door for checkpoints from elsewhere: a released layout or the sparse format."""

import dataclasses
from pathlib import Path

from circuits_jax.model import oddities
from circuits_jax.model.model import Model
from circuits_jax.released.load import WEIGHTS, load
from circuits_jax.released.remote import fetched
from circuits_jax.released.sparse_format import CONFIG, FORMAT, load_sparse
from circuits_jax.storage.errors import CheckpointError
from circuits_jax.storage.files import read_json
from circuits_jax.storage.paths import is_folder


def load_any(source: str | Path, strict: bool = True) -> Model:
    """Loads what `load` takes, or a folder in the sparse format.

    Args:
      source: A folder, a file, hf:owner/name or a URL.
      strict: As `load` has it; the sparse format knows no surplus.

    Raises:
      CheckpointError: whatever is wrong with the checkpoint, in one line.
    """
    with fetched(source, WEIGHTS) as local:
        folder = local if is_folder(local) else local.parent
        model = load_sparse(folder) if _is_sparse(folder) else load(local, strict)
    oddities.tell(str(source), model.config, model.params)
    return dataclasses.replace(model, source=str(source))


def _is_sparse(folder: Path) -> bool:
    """Whether `folder` holds a configuration of the sparse format; `load` says what is wrong with others."""
    try:
        return read_json(folder / CONFIG).get("format") == FORMAT
    except CheckpointError:
        return False

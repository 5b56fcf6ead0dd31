"""Models that a run was trained with and does not hold itself: found again where they lie by now.

A run writes down the hash of each, and where it lay as seen from everywhere and as seen from the run; so a
model is known by what it is, and not by its old place alone.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from circuits_jax.config import Config
from circuits_jax.model.model import Model
from circuits_jax.runs.opening import load_model
from circuits_jax.storage import filenames, places
from circuits_jax.storage.errors import CheckpointError, UserError
from circuits_jax.storage.paths import as_path, exists, is_remote
from circuits_jax.training.multihost.processes import is_primary
from circuits_jax.training.workdir import load_config

DENSE, SPARSE, START = "bridge.dense", "bridge.sparse", "train.start_from"


def open_companion(workdir: Path, setting: str, names: Sequence[str | None]) -> Model:
    """The model that a run calls by `setting`.

    Args:
      workdir: The run's.
      setting: Such as "bridge.dense".
      names: What it may be called by now, the likeliest first; then come the places that the run wrote down.

    Returns:
      The one whose hash the run wrote down; without that, what the last place holds, whatever it is.

    Raises:
      CheckpointError: if it lies in none of them.
      UserError: if what the last place holds cannot be read, and no other is the model.
    """
    found = [name for name in names if name is not None]
    found += [str(place) for place in places.remembered(workdir, setting)]
    there = [name for name in dict.fromkeys(found) if _is_there(name)]
    if not there and len(found) != 1:
        raise CheckpointError(
            f"the model that the run {workdir} calls {setting} lies in none of "
            f"{', '.join(dict.fromkeys(found))}; name its folder: --config.{setting}=FOLDER"
        )
    wanted = places.about(workdir, setting).get("hash")
    last: Model | Exception
    for name in there or found:
        try:
            last = load_model(name)
        except (UserError, OSError) as error:  # something else may lie at a name that it had
            last = error
        else:
            if wanted in (None, last.hash):
                return last
    if isinstance(last, Exception):
        raise last
    return last


def remember_companion(workdir: Path, setting: str, model: Model) -> None:
    """Writes down in a workdir which model its run was trained with, and where it lies."""
    if is_primary():
        places.remember(workdir, setting, None if _is_url(model.source) else model.source, hash=model.hash)


def settle_companion(config: Config, workdir: Path, setting: str, model: Model | None = None) -> Config:
    """`config` with the name that the run in `workdir` has for a model, if only the name is another.

    Args:
      config: Given now.
      workdir: Of the run, which may not be there yet.
      setting: Such as "bridge.dense".
      model: What `config` names, if it is open already.
    """
    section, field = setting.split(".")
    given, wanted = getattr(getattr(config, section), field), places.about(workdir, setting).get("hash")
    if given is None or wanted is None or not (workdir / filenames.CONFIG).exists():
        return config
    there = getattr(getattr(load_config(workdir), section), field)
    if there == given or (load_model(given) if model is None else model).hash != wanted:
        return config
    changed = dataclasses.replace(getattr(config, section), **{field: there})
    return dataclasses.replace(config, **{section: changed})


def _is_there(name: str) -> bool:
    try:
        return _is_url(name) or exists(as_path(name))
    except UserError:  # such as a home folder that this machine has not
        return False


def _is_url(name: str) -> bool:
    """Whether a model is called the same from everywhere."""
    return is_remote(name) or name.startswith("hf:")

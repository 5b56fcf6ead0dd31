"""The folder of one run: made once, and never shared by two configurations."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from circuits_jax.config import Config, from_dict, to_dict
from circuits_jax.storage import filenames
from circuits_jax.storage.errors import ConfigError, MemoryLackError, UserError
from circuits_jax.storage.files import write_json
from circuits_jax.storage.lfs import refuse_pointer
from circuits_jax.storage.locks import locked
from circuits_jax.storage.paths import exists
from circuits_jax.training.checkpoints import newest
from circuits_jax.training.multihost.processes import is_primary

# The parts of a configuration that decide what the trained parameters are.
TRAINING_SECTIONS = ("model", "data", "sparsity", "optimizer", "train", "bridge")
# Of the section `data`: where documents come from.  A run that has its corpus is not bound to them.
SOURCE = ("source", "roots", "name", "text", "exclude")
# Of the section `data`: where the corpus lies, and what it is called.
_PLACE = ("store", "hash")
# Of the section `train`: how often a run logs, evaluates and saves.  A run may go on with other ones.
RHYTHM = (
    *("log_every", "eval_every", "eval_batches", "checkpoint_every", "keep_checkpoints", "keep_best"),
    "snapshots",
)


def check(workdir: Path, config: Config) -> None:
    """Makes `workdir`, and checks that a run that is there is one of the same training.

    Raises:
      UserError: if the folder cannot be made.
      ConfigError: if it holds a run of another configuration; the first differences are named.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        found = (workdir / filenames.CONFIG).exists()
    except OSError as error:
        raise UserError(f"cannot write to the workdir {workdir}: {error.strerror}") from error
    if found:
        differences = _differences(to_dict(load_config(workdir)), to_dict(config))
        if differences:
            raise ConfigError(
                f"{workdir} holds a run of another configuration ({'; '.join(differences[:3])}); "
                "choose another --workdir, or give the settings of that run"
            )


def claim(workdir: Path, config: Config) -> None:
    """Writes `config.json`: from now on `workdir` is that training's and no other's.

    Raises:
      UserError, ConfigError: as `check` does.
    """
    check(workdir, config)
    if not is_primary():
        return
    try:
        write_json(workdir / filenames.CONFIG, to_dict(config))
    except OSError as error:
        raise UserError(f"cannot write to the workdir {workdir}: {error.strerror}") from error


@contextlib.contextmanager
def owned(workdir: Path) -> Iterator[None]:
    """Within the block no other run trains in `workdir`; process 0 of several sees to it.

    Raises:
      LockError: if another run does: which process, where, since when.
    """
    with locked(workdir) if is_primary() else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def claimed(workdir: Path, config: Config) -> Iterator[None]:
    """`claim`, for the block; one that lacks memory before its first checkpoint gives a new workdir back.

    Raises:
      UserError, ConfigError: as `check` does.
    """
    before = exists(workdir / filenames.CONFIG)
    claim(workdir, config)
    try:
        yield
    except MemoryLackError:
        if is_primary() and not before and newest(workdir) is None:
            (workdir / filenames.CONFIG).unlink(missing_ok=True)
        raise


def load_config(workdir: Path) -> Config:
    """The configuration of the run in `workdir`.

    Raises:
      ConfigError: if there is none, or it cannot be read.
    """
    path = workdir / filenames.CONFIG
    if not exists(path):
        raise ConfigError(
            f"{workdir} holds no run (no config.json); train one: python -m circuits_jax pretrain"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    refuse_pointer(content, path, ConfigError)
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} is not valid JSON ({error}); move it away, and the run's own command writes it anew"
        ) from error
    return from_dict(Config, values, str(path))


def _differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    names = (there["data"]["hash"], here["data"]["hash"])
    free = {"train": RHYTHM, "data": _PLACE if None in names else ("store",)}
    if None not in names and names[0] == names[1]:
        free["data"] += SOURCE
    return [
        f"{section}.{key} is {there[section].get(key)!r} there, {value!r} here"
        for section in TRAINING_SECTIONS
        for key, value in here[section].items()
        if key not in free.get(section, ()) and there[section].get(key) != value
    ]

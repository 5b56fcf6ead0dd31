"""How many devices a run has had."""

import json
import math
from pathlib import Path
from typing import Any

import jax

from circuits_jax.storage import filenames
from circuits_jax.storage.errors import UserError
from circuits_jax.storage.files import read_json_if_any, write_json
from circuits_jax.training.multihost.processes import is_primary

_SHARDINGS = "state/_sharding"  # where orbax says how a checkpoint's arrays lay


def record_devices(workdir: Path, devices: int, measured: dict[str, float] | None = None) -> None:
    """Notes in `workdir` which devices its run is on, once they are settled.

    Args:
      workdir: The folder of the run.
      devices: How many, of all processes.
      measured: Milliseconds of a step on each number of CPU devices; what was noted before stays.

    Raises:
      UserError: if the note cannot be written.
    """
    if not is_primary():
        return
    there = _record(workdir)
    kept = measured if measured is not None else there.get("milliseconds_of_a_step")
    note = {"platform": jax.default_backend(), "devices": devices, "processes": jax.process_count()}
    note |= {} if kept is None else {"milliseconds_of_a_step": kept}
    if note == there:
        return
    try:
        write_json(workdir / filenames.DEVICES, note)
    except OSError as error:
        raise UserError(f"cannot write to the workdir {workdir}: {error.strerror or error}") from error


def recorded_devices(workdir: Path) -> int | None:
    """CPU devices, of all processes, that the run in `workdir` is on; None if that cannot be told.

    Runs of before there was a record say it in their checkpoints.  JAX is not used.
    """
    there = _record(workdir)
    if there:
        return there["devices"] if there.get("platform") == "cpu" else None
    return _devices_of_checkpoint(workdir)


def has_checkpoints(workdir: Path) -> bool:
    """Whether a run has left checkpoints in `workdir`."""
    return bool(_checkpoint_steps(workdir))


def _record(workdir: Path) -> dict[str, Any]:
    """What `record_devices` wrote; {} if nothing that can be read."""
    there = read_json_if_any(workdir / filenames.DEVICES)
    whole = isinstance(there.get("devices"), int) and there["devices"] > 0
    return there if whole else {}


def _devices_of_checkpoint(workdir: Path) -> int | None:
    """Devices over which the newest checkpoint's arrays lay; None if that cannot be told."""
    steps = _checkpoint_steps(workdir)
    if not steps:
        return None
    try:
        named = json.loads((workdir / filenames.CHECKPOINTS / str(max(steps)) / _SHARDINGS).read_bytes())
        shapes = [json.loads(text).get("shape", []) for text in named.values()]
        return max((math.prod(shape) for shape in shapes if shape), default=None)
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def _checkpoint_steps(workdir: Path) -> list[int]:
    try:
        return [int(path.name) for path in (workdir / filenames.CHECKPOINTS).iterdir() if path.name.isdigit()]
    except OSError:
        return []

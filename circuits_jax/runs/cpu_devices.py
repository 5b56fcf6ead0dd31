"""How many devices the CPU is split into: one or two, what the run had before, or what a measurement says.

The number changes how sums are rounded, and so which circuit is found: a run keeps it.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
from jax.extend.backend import clear_backends

from circuits_jax.config import Config
from circuits_jax.runs.device_check import step_seconds
from circuits_jax.storage import filenames
from circuits_jax.storage.cores import usable_cores
from circuits_jax.storage.errors import ConfigError, UserError
from circuits_jax.storage.paths import exists
from circuits_jax.training.devices import has_checkpoints, record_devices, recorded_devices
from circuits_jax.training.mesh.meshes import axis_sizes
from circuits_jax.training.workdir import load_config

AUTO = "auto"
_MOST = 8  # devices that are tried
_MOST_ASKED = 1024  # each is a thread of its own
_GAIN = 0.97  # what a step must take, at most, of its time on fewer devices
_TIMED_STEPS = 5


class Choice(NamedTuple):
    """How many CPU devices this process has, and a line that says why where it is not the plain default."""

    devices: int
    why: str | None = None


def choose(asked: str | None, training: Config | None, workdir: Path | None, processes: int = 1) -> Choice:
    """The number of CPU devices of this process; must come before JAX is first used.

    Args:
      asked: What --cpu_devices says: a number, "auto" or None.
      training: The configuration of the run that is to be trained; None where none is.
      workdir: The folder of the run, which may not be there yet.
      processes: Of the run.

    Raises:
      ConfigError: for a number that is none, or that the run cannot use.
    """
    before = None if workdir is None else recorded_devices(workdir)
    before = before // processes if before and before % processes == 0 else None
    if asked is not None and asked != AUTO:
        return _asked_for(asked, training, before, workdir, processes)
    if before is not None and (training is None or fits(before, training, processes)):
        why = f"{before}, as the run in {workdir} has had them" if before > 1 or asked == AUTO else None
        return Choice(before, why)
    if asked == AUTO:
        return _measured(training, workdir, processes)
    devices = 1 if training is None else _default(training, processes)
    if before is None and workdir is not None and has_checkpoints(workdir):
        return Choice(devices, f"{devices}; how many the run in {workdir} had before is not known")
    return Choice(devices, None if devices == 1 else f"{devices}, which split the batch")


def fits(devices: int, config: Config, processes: int = 1) -> bool:
    """Whether a run can use that many CPU devices of each process, all of them."""
    total = devices * processes
    try:
        return math.prod(axis_sizes(config.mesh, total, config.train.batch_size, processes)) == total
    except ConfigError:
        return False


def candidates(config: Config, cores: int) -> list[int]:
    """Numbers of CPU devices, at most one a core, that a run can use; one at least."""
    fitting = [count for count in range(1, min(cores, _MOST) + 1) if fits(count, config)]
    return fitting or [_default(config, 1)]


def fastest(counts: list[int], seconds_of: Callable[[int], float]) -> tuple[int, dict[int, float]]:
    """The number of devices on which a step is fastest, and the seconds that were measured.

    More devices must be clearly faster than fewer; once they are not, still more are not tried.
    """
    seconds = {counts[0]: seconds_of(counts[0])}
    best = counts[0]
    for count in counts[1:]:
        seconds[count] = seconds_of(count)
        if seconds[count] > _GAIN * seconds[best]:
            break
        best = count
    return best, seconds


def _asked_for(
    asked: str, training: Config | None, before: int | None, workdir: Path | None, processes: int
) -> Choice:
    if re.fullmatch(r"[1-9][0-9]{0,3}", asked) is None or int(asked) > _MOST_ASKED:
        raise ConfigError(f"--cpu_devices is {asked!r}; give a number from 1 to {_MOST_ASKED}, or {AUTO}")
    devices = int(asked)
    if training is not None and not fits(devices, training, processes):
        axis_sizes(training.mesh, devices * processes, training.train.batch_size, processes)
        usable = [str(count) for count in range(1, 65) if fits(count, training, processes)]
        raise ConfigError(
            f"--cpu_devices is {devices}, which do not divide train.batch_size {training.train.batch_size} "
            f"in mesh.accumulate {training.mesh.accumulate}; give one of {', '.join(usable[:8])}"
        )
    if before in (None, devices):
        return Choice(devices)
    return Choice(devices, f"{devices}; the run in {workdir} had {before}: rounding differs from here on")


def _measured(training: Config | None, workdir: Path | None, processes: int) -> Choice:
    """What a measurement says; it is noted in the workdir."""
    if processes > 1:
        raise ConfigError("--cpu_devices=auto measures a single process; give each of several a number")
    if training is None and workdir is not None and exists(workdir / filenames.CONFIG):
        training = load_config(workdir)
    if training is None or workdir is None:
        return Choice(1, "1; there is no run here to measure")
    counts = candidates(training, usable_cores())
    if len(counts) == 1:
        return Choice(counts[0], f"{counts[0]}, the only number that this process and the batch allow")

    def seconds_of(count: int) -> float:
        clear_backends()
        jax.config.update("jax_num_cpu_devices", count)
        return step_seconds(training, _TIMED_STEPS)

    jax.config.update("jax_num_cpu_devices", 1)
    if jax.default_backend() != "cpu":
        return Choice(1, "1; the run is on an accelerator")
    best, seconds = fastest(counts, seconds_of)
    figures = {str(count): round(1e3 * took, 1) for count, took in seconds.items()}
    try:
        record_devices(workdir, best, figures)
        noted = f"noted in {workdir}"
    except UserError as error:  # a command that only looks goes on
        noted = f"not noted: {error}"
    clear_backends()
    told = ", ".join(f"{took:g} ms on {count}" for count, took in figures.items())
    return Choice(best, f"{best}, measured: a step takes {told}; {noted}")


def _default(config: Config, processes: int) -> int:
    """As many devices as the given axes ask for, else one; or two that each work on rows of their own.

    Two are faster where each has little beside its rows to do: all of them update every parameter, and a
    learned bigram table is most of a small model's (docs/performance.md, "CPU devices").  Bridges do not work
    row by row.
    """
    mesh = config.mesh
    wanted = math.prod(size for size in (mesh.data, mesh.fsdp, mesh.model) if size != -1)
    by_rows = config.model.bigram != "learned" and config.bridge.dense is None
    if wanted == processes == 1 and by_rows and usable_cores() > 1 and fits(2, config):
        return 2
    return wanted // processes if wanted % processes == 0 else 1

"""TPU slices by name, as devices that can be compiled for and not run on: libtpu describes them anywhere."""

import dataclasses
import importlib.util
import math
import os
import re
from collections.abc import Sequence
from typing import Any

import jax

from circuits_jax.storage.errors import ConfigError, UserError
from circuits_jax.training.compiling.chips import TPUS, Chip

EXTRA = "tpu-compile"
_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBIC = (
    "1x1x1",
    "2x2x1",
    "2x2x2",
    "2x2x4",
    "2x4x4",
    "4x4x4",
    "4x4x8",
    "4x8x8",
    "8x8x8",
    "8x8x16",
    "8x16x16",
)
KNOWN = {"v4": _CUBIC, "v5e": _FLAT, "v5p": _CUBIC, "v6e": _FLAT}
"""Shapes of a slice by the chips' generation."""
# What clouds call slices: of v4 and v5p they count cores, two a chip.
_CLOUD = {"v4": ("v4", 2), "v5litepod": ("v5e", 1), "v5e": ("v5e", 1), "v5p": ("v5p", 2), "v6e": ("v6e", 1)}
# libtpu would ask a server that only TPU machines have, and try several times.
_NO_SERVER = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
}
_SHARED = "ALLOW_MULTIPLE_LIBTPU_LOAD"


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips that are wired together, perhaps several such.

    Attributes:
      name: Such as "v5e:4x4".
      chip: Of which it is made.
      count: How many slices.
    """

    name: str
    chip: Chip
    count: int = 1

    @property
    def chips(self) -> int:
        """Of all slices."""
        return self.count * math.prod(map(int, self.name.partition(":")[2].split("x")))

    def __str__(self) -> str:
        return self.name if self.count == 1 else f"{self.count} slices of {self.name}"


def find_slice(name: str, count: int = 1) -> Slice:
    """The slice of a name: "v5e:4x4", or as clouds call it, "v5litepod-16".

    Raises:
      ConfigError: for a name that is not known, or a number of slices below 1.
    """
    if count < 1:
        raise ConfigError(f"--num_slices is {count}; give 1 or more")
    generation, colon, shape = name.partition(":")
    if not colon:
        generation, shape = _of_cloud(name)
    chips = {chip.name: chip for chip in TPUS}
    if generation not in chips or shape not in KNOWN[generation]:
        known = "; ".join(f"{each}:{', '.join(shapes)}" for each, shapes in KNOWN.items())
        raise ConfigError(f"there is no topology {name!r}; known are {known}, or v5litepod-16 and the like")
    return Slice(f"{generation}:{shape}", chips[generation], count)


def _of_cloud(name: str) -> tuple[str, str]:
    """(generation, shape) of a name such as "v5litepod-16"; two empty words for one that is none."""
    found = re.fullmatch(r"(?:tpu-)?(\w+)-(\d+)", name)
    if found is None or found[1] not in _CLOUD:
        return "", ""
    generation, cores = _CLOUD[found[1]]
    sizes = {math.prod(map(int, shape.split("x"))): shape for shape in KNOWN[generation]}
    return generation, sizes.get(int(found[2]) // cores, "")


def describe_devices(slices: Slice) -> Sequence[jax.Device]:
    """The slices' chips, of all hosts, as JAX devices to compile for.

    Raises:
      UserError: if libtpu is missing, another process holds it, or it does not know the slice.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            f"compiling for {slices.name} needs libtpu, which is not installed: "
            f"pip install 'circuits_jax[{EXTRA}]' (on Linux; no TPU is needed)"
        )
    for variable, value in _NO_SERVER.items():
        os.environ.setdefault(variable, value)
    _drop_flags_of_others()
    from jax.experimental import topologies

    options: dict[str, Any] = {} if slices.count == 1 else {"num_slices": slices.count}
    if slices.chip.name == "v4":  # a chip's two cores are one device, as they are where it runs
        options["chip_config_name"] = "megacore"
    try:
        return list(
            topologies.get_topology_desc(platform="tpu", topology_name=slices.name, **options).devices
        )
    except Exception as error:  # libtpu's own are of several kinds
        raise UserError(_why_not(slices, str(error))) from error


def _drop_flags_of_others() -> None:
    """Takes what XLA_FLAGS says of CPUs and GPUs out of the environment.

    libtpu ends the process at a flag that it does not know.
    """
    flags = os.environ.get("XLA_FLAGS")
    if flags:
        kept = [flag for flag in flags.split() if not flag.startswith(("--xla_cpu_", "--xla_gpu_"))]
        os.environ["XLA_FLAGS"] = " ".join(kept)


def _why_not(slices: Slice, message: str) -> str:
    """One line of what libtpu says."""
    said = " ".join(message.split())
    if re.search(r"lockfile|already in use|in use by|multiple.*libtpu", said, re.IGNORECASE):
        return (
            f"another process holds libtpu, and only one may ({said[:160]}); wait until it has ended, or set "
            f"{_SHARED}=1 if that one only compiles, too"
        )
    return f"libtpu does not describe {slices}: {said[:200]}"

"""A device that runs out of memory, in one line: what was asked for, what there is, and what helps."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import jax

from circuits_jax.storage.errors import MemoryLackError

# What to change, by what was under way.
TRAINING = (
    "raise mesh.accumulate, set mesh.remat to 'dots' or 'blocks', split the state with mesh.fsdp or "
    "mesh.model, or lower train.batch_size or model.n_ctx"
)
PRUNING = "lower prune.batch_pairs or prune.mean_batches, or set prune.batching to 'map'"
AUDITING = "lower audit.pairs, audit.natural or train.batch_size, or audit with --controls=none"
ANYTHING = "use a device with more memory, or ask for less at a time"
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "P": 2**50, "E": 2**60}
_SIZE = r"([\d.]+) ?([KMGTPE]?)i?(?:B\b|bytes|\b)"


@contextlib.contextmanager
def memory_told(what_helps: str) -> Iterator[None]:
    """Within the block a device, or the machine, that runs out of memory is a MemoryLackError.

    Args:
      what_helps: Settings to change, such as TRAINING.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) and "Out of memory" not in str(error):
            raise
        raise MemoryLackError(_line(str(error), what_helps)) from error
    except MemoryError as error:  # numpy's says how much it wanted
        asked = _asked(str(error))
        wanted = f"{_size(asked)} asked for, " if asked else ""
        raise MemoryLackError(f"this machine is out of memory: {wanted}{_machine()}; {what_helps}") from error


def _line(message: str, what_helps: str) -> str:
    device = jax.local_devices()[0]
    asked = _asked(message)
    wanted = f"{_size(asked)} asked for" if asked else _first_sentence(message)
    return f"the device {device} is out of memory: {wanted}, {_available(device, message)}; {what_helps}"


def _asked(message: str) -> float | None:
    """Bytes that were asked for, as XLA's back ends and numpy say it."""
    for pattern in (
        rf"(?:allocat\w*|reserve|Used) {_SIZE}",
        rf"request\w* .{{0,40}}?{_SIZE}",
    ):
        found = re.search(pattern, message, re.IGNORECASE)
        if found:
            return _bytes(found)
    return None


def _available(device: jax.Device, message: str) -> str:
    """What the device has, in words."""
    if found := re.search(rf"Used {_SIZE} of {_SIZE}", message):
        return f"of {_size(float(found[3]) * _UNITS[found[4]])} that it has"
    statistics = device.memory_stats() or {}
    limit, used = statistics.get("bytes_limit"), statistics.get("bytes_in_use", 0)
    if limit:
        return f"{_size(limit - used)} of its {_size(limit)} available"
    return _machine()


def _machine() -> str:
    """What the machine has, in words."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        known = {
            name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)
        }
        return f"{_size(known['MemAvailable'])} of the machine's {_size(known['MemTotal'])} available"
    except (OSError, ValueError, KeyError, IndexError):
        return "how much there is cannot be told here"


def _bytes(found: re.Match[str]) -> float:
    return float(found[1].rstrip(".")) * _UNITS[found[2].upper()]


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


def _first_sentence(message: str) -> str:
    return " ".join(message.split())[:120]

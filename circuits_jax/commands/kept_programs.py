"""Programs that were compiled are kept in the user's cache, so that the next command need not compile them.

They take more than half of the time of a first pruning.  They lie in the user's own cache and in no run:
whoever loads machine code trusts it, and runs are handed on.
"""

import hashlib
import os
import platform
from pathlib import Path

import jax

from circuits_jax.storage.paths import as_path

MOST_BYTES = 2**30  # of all programs; those not used for longest go first
_CPUINFO = Path("/proc/cpuinfo")


def keep_programs() -> None:
    """Keeps what this process compiles, and takes what is there.

    In `circuits_jax/programs` of XDG_CACHE_HOME, by default of `~/.cache`; nowhere if that cannot be written.
    JAX's own setting (JAX_COMPILATION_CACHE_DIR) goes before.
    """
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        cache = as_path(given) if os.path.isabs(given) else Path.home() / ".cache"
    except RuntimeError:  # no home
        return
    place = cache / "circuits_jax" / "programs" / _machine()
    there = next(path for path in (place, *place.parents) if path.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        jax.config.update("jax_compilation_cache_max_size", MOST_BYTES)
        jax.config.update("jax_compilation_cache_dir", str(place))


def _machine(cpuinfo: Path = _CPUINFO) -> str:
    """A digest of what the processor can do: machine code is its own, and homes are shared by machines."""
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    told = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return hashlib.sha256(f"{platform.machine()} {platform.processor()} {told}".encode()).hexdigest()[:16]

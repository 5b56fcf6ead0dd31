"""Programs that were compiled are kept beside a run, so that the next command on it need not compile them.

They take more than half of the time of a first pruning.  A machine code is one processor's, so that each kind
of machine has a folder of its own; all of them may be deleted.
"""

import hashlib
import os
import platform
import socket
from pathlib import Path

import jax

from circuits_jax.storage.filenames import PROGRAMS
from circuits_jax.storage.paths import is_remote

_CPUINFO = Path("/proc/cpuinfo")


def keep_programs(folder: Path, makes: bool) -> None:
    """Keeps what this process compiles in `folder`, and takes what is there.

    Nothing is written before the first program that takes a second to compile.  JAX's own setting
    (JAX_COMPILATION_CACHE_DIR) goes before.

    Args:
      folder: Of a run, or of a list of runs; a bucket's is left alone, as is one that cannot be written.
      makes: Whether the command makes the folder where it is missing.
    """
    if jax.config.values["jax_compilation_cache_dir"] is not None or is_remote(folder):
        return
    if os.access(folder, os.W_OK) if folder.is_dir() else makes and not folder.exists():
        jax.config.update("jax_compilation_cache_dir", str(folder / PROGRAMS / _machine()))


def _machine(cpuinfo: Path = _CPUINFO) -> str:
    """The machine's name, and a digest of what its processor can do: one name may pass to another machine."""
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    told = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    digest = hashlib.sha256(f"{platform.machine()} {told}".encode()).hexdigest()[:8]
    return f"{socket.gethostname()}-{digest}"

"""Tests run on the CPU, as eight devices, so that sharding is exercised everywhere.

Compilation is most of their time, so that XLA leaves its dearest passes out, also in commands that they
start.  Modules whose slow tests compute more than they compile say so, `pytestmark = pytest.mark.computes`,
and are compiled in full when one of these is run; with JAX_DISABLE_MOST_OPTIMIZATIONS=0 in the environment
all are, as elsewhere.
What took half a second to compile is kept for the other tests and processes of the run.
"""

import atexit
import gc
import importlib.metadata
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("CIRCUITS_JAX_UNOPTIMIZED", "1")  # commands heed it too
if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (
    0,
    11,
):  # later ones end at the flag
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")  # compiles in half the time
os.environ.setdefault("PJRT_NPROC", "16")  # collectives block threads: docs/performance.md, "CPU devices"
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # workers find that of the process that starts them
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="circuits_jax-compiled-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax
import pytest

from circuits_jax.storage import notices
from circuits_jax.tasks import files

jax.config.update("jax_num_cpu_devices", 8)
_UNOPTIMIZED = "jax_disable_most_optimizations"


@pytest.fixture(autouse=True, scope="module")
def _compile_in_full(request: pytest.FixtureRequest) -> Iterator[None]:
    """Lets XLA optimize what a module marked `computes` compiles, here and in the commands that it starts."""
    chosen = [item for item in request.session.items if item.path == request.node.path]
    computes = all(any(item.get_closest_marker(name) for item in chosen) for name in ("computes", "slow"))
    if not computes or not jax.config.values[_UNOPTIMIZED]:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
        jax.clear_caches()  # a program compiled in the other way may differ in rounding
        jax.config.update(_UNOPTIMIZED, False)
        yield
        jax.config.update(_UNOPTIMIZED, True)
        jax.clear_caches()


# Of the 65,530 memory maps that Linux allows a process: every compiled program takes some.
_MOST_MAPS = 30_000


@pytest.fixture(autouse=True, scope="module")
def _forget_other_modules() -> None:
    """What other modules left in this process: tasks of files that they named, lines still to be told, and
    programs, before there are so many that one more would end the process by a segmentation fault."""
    files._named.clear()
    notices._LINES.clear()
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > _MOST_MAPS:
        jax.clear_caches()
        gc.collect()

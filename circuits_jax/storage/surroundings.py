"""What a result depends on is fixed here and not by the shell.

`settle_shell` is for commands, before JAX is imported; `settled` for what the library is asked to do within
somebody else's process, whose settings it leaves as they were.
"""

import contextlib
import fnmatch
import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

# Variables of JAX that say where and with whom it computes, what it keeps compiled and what it tells.  All
# others could change a result, or are of no use to a command.
_HEEDED = (
    "JAX_PLATFORMS", "JAX_PLATFORM_NAME", "JAX_*_VISIBLE_DEVICES",
    "JAX_COORDINATOR_*", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "JAX_LOCAL_DEVICE_IDS", "JAX_CROSS_HOST_*",
    "JAX_*COMPILATION_CACHE*", "JAX_*PERSISTENT_CACHE*",
    "JAX_LOG*", "JAX_DEBUG_LOG_MODULES", "JAX_TRACEBACK_FILTERING", "JAX_DUMP_*",
)  # fmt: skip
# Heeded too where the other is set: our tests compile quickly, and compare with nothing but each other.
_UNOPTIMIZED, _UNOPTIMIZED_TESTS = "JAX_DISABLE_MOST_OPTIMIZATIONS", "CIRCUITS_JAX_UNOPTIMIZED"
# What XLA_FLAGS may say: what is written down of a compilation, how long it takes, and when the parts of a
# program run on a GPU.
_XLA_HEEDED = (
    "--xla_dump_*", "--xla_hlo_profile*", "--xla_cpu_use_fusion_emitters", "--xla_gpu_cuda_data_dir",
    "--xla_gpu_force_compilation_parallelism", "--xla_gpu_enable_latency_hiding_scheduler",
    "--xla_gpu_*combine_threshold_bytes", "--xla_gpu_memory_limit_slop_factor",
)  # fmt: skip
# Of other libraries: a matrix product's precision; a command opens no windows, its pictures look the same
# everywhere, and so do its bars, whose library ends at a number that is none.
_PRECISION = ("NVIDIA_TF32_OVERRIDE",)
_DROPPED = ("MPLBACKEND", "MATPLOTLIBRC", "NPY_PROMOTION_STATE", "TQDM_*")
_NARROWEST = 40  # columns
# On a GPU or TPU products of float32 are rounded to TF32 or bfloat16 unless told otherwise: AbsTopK then
# keeps other entries, and verdicts near a threshold change.  Training steps alone may be faster
# (mesh.precision).
PRECISION = "highest"
# Otherwise JAX's own defaults; each is settable for a while by a context manager of the same name.
_SETTINGS: dict[str, Any] = {
    "enable_x64": False,
    "default_matmul_precision": PRECISION,
    "default_prng_impl": "threefry2x32",
    "threefry_partitionable": True,
    "enable_custom_prng": False,
    "legacy_prng_key": "allow",
    "debug_key_reuse": False,
    "numpy_dtype_promotion": "standard",
    "numpy_rank_promotion": "allow",
    "debug_nans": False,
    "debug_infs": False,
    "disable_jit": False,
    "enable_checks": False,
    "transfer_guard": "allow",
}

P = ParamSpec("P")
R = TypeVar("R")


def settle_shell() -> None:
    """Takes variables that could change a result out of the environment, and tells which; before JAX is
    imported."""
    heeded = (*_HEEDED, _UNOPTIMIZED) if os.environ.get(_UNOPTIMIZED_TESTS) else _HEEDED
    unheeded = [
        name
        for name in os.environ
        if name in _PRECISION or (name.startswith("JAX_") and not _is_of(name, heeded))
    ]
    for name in [*unheeded, *(name for name in os.environ if _is_of(name, _DROPPED))]:
        del os.environ[name]
    unheeded += _settle_xla_flags()
    if unheeded:
        print(
            f"not heeded: {', '.join(sorted(unheeded))} (results do not depend on the shell)", file=sys.stderr
        )
    columns = os.environ.get("COLUMNS", "")
    if not columns.isdecimal() or int(columns[:9]) < _NARROWEST:  # absl cannot wrap a flag's help to less
        os.environ.pop("COLUMNS", None)
    if sys.warnoptions:  # with -W error, what a library says in passing would end the command
        warnings.resetwarnings()
        warnings.simplefilter("ignore")


def wrong_variables() -> str:
    """The variables that JAX still reads, for the message of an import that ends at one; "" without any."""
    return ", ".join(sorted(name for name in os.environ if name.startswith("JAX_")))


def _settle_xla_flags() -> list[str]:
    """Leaves in XLA_FLAGS what cannot change a result; gives the others.  XLA ends at a flag it knows not."""
    given = os.environ.pop("XLA_FLAGS", "").split()
    kept = [flag for flag in given if _is_of(flag.partition("=")[0], _XLA_HEEDED)]
    if kept:
        os.environ["XLA_FLAGS"] = " ".join(kept)
    return [f"XLA_FLAGS {flag}" for flag in given if flag not in kept]


def _is_of(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _manager(name: str) -> Any:
    """JAX's context manager for a setting; `enable_x64` was experimental before jax 0.8."""
    import jax.experimental  # later than `settle_shell`

    return getattr(jax if hasattr(jax, name) else jax.experimental, name)


@contextlib.contextmanager
def settings_of_ours() -> Iterator[None]:
    """Within the block, in this thread, JAX computes with our settings, not the process': its own defaults,
    and matrix products of float32 to float32's precision."""
    import jax  # only here: reading circuits needs no JAX

    with contextlib.ExitStack() as stack:
        for name, value in _SETTINGS.items():
            there = getattr(jax.config, f"jax_{name}", value)
            if getattr(there, "value", there) != value and not (name == "transfer_guard" and there is None):
                stack.enter_context(_manager(name)(value))
        offset = getattr(jax.config, "jax_random_seed_offset", 0)
        if offset:  # has no context manager
            jax.config.update("jax_random_seed_offset", 0)
            stack.callback(jax.config.update, "jax_random_seed_offset", offset)
        yield


def settled(function: Callable[P, R]) -> Callable[P, R]:
    """`function` as it computes with our settings, those of `settings_of_ours`."""

    @functools.wraps(function)
    def computed(*args: P.args, **kwargs: P.kwargs) -> R:
        with settings_of_ours():
            return function(*args, **kwargs)

    return computed


def settled_steps(steps: Iterator[R]) -> Iterator[R]:
    """The items of `steps`, each computed so; between them the process' settings are its own."""
    while True:
        with settings_of_ours():
            try:
                item = next(steps)
            except StopIteration:
                return
        yield item

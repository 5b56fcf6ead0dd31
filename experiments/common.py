"""What every experiment needs: flags to configuration, devices, and errors a person can read."""

import contextlib
import ctypes
import logging as std_logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import jax
from absl import app, flags, logging
from etils import epath
from ml_collections import config_flags
from tqdm import tqdm

from circuits_jax.config import Config, from_dict
from circuits_jax.errors import ConfigError, Stopped, UserError
from circuits_jax.files import is_remote, write_json
from circuits_jax.training.processes import together

T = TypeVar("T")

# glibc's M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD and M_ARENA_MAX: one heap that only grows.
_MALLOC_OPTIONS = {-4: 0, -1: 2**31 - 1, -2: 2**28, -8: 1}
_SIGTERM_EXIT = 143  # what a process ended by SIGTERM gives: the run is not finished


def _number(variable: str) -> int | None:
    """An environment variable's number."""
    return int(os.environ[variable]) if os.environ.get(variable, "").isdigit() else None


CONFIGS = Path(__file__).parent / "configs"
_WORKDIR = flags.DEFINE_string("workdir", "runs/quickstart", "Folder that holds everything of one run.")
_CPU_DEVICES = flags.DEFINE_integer(
    "cpu_devices",
    0,
    "CPU devices to use where there is no accelerator; 0 takes one a core, up to 8. More of them use the "
    "cores better than one device's threads do.",
    lower_bound=0,
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", os.environ.get("JAX_COORDINATOR_ADDRESS"), "host:port of process 0 of a run of several."
)
_PROCESSES = flags.DEFINE_integer(
    "processes", _number("JAX_NUM_PROCESSES"), "Processes of the run; needs --coordinator."
)
_PROCESS = flags.DEFINE_integer(
    "process", _number("JAX_PROCESS_ID"), "Number of this process, from 0; needs --coordinator."
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Join the processes that JAX finds by itself: TPU pods, SLURM, GKE, Open MPI."
)
_JOIN_TIMEOUT = flags.DEFINE_integer("join_timeout", 300, "Seconds to wait for the other processes.")


def read_config() -> Config:
    """The checked configuration that file and flags gave.

    Raises:
      ConfigError: for an unknown key or a value that cannot be used.
    """
    try:
        values = flags.FLAGS.config.to_dict()
    except OSError as error:  # raised when the flag is read, with a trace in the message
        raise ConfigError("the file that --config names cannot be read; name one that exists") from error
    return from_dict(Config, values)


def workdir() -> Path:
    """The folder of the run, local or in a bucket.

    Raises:
      ConfigError: for an empty one, which would be the current folder.
    """
    if not _WORKDIR.value:
        raise ConfigError("--workdir is empty; name a folder, or . for this one")
    return epath.Path(_WORKDIR.value) if is_remote(_WORKDIR.value) else Path(_WORKDIR.value)


def run(main: Callable[[], None]) -> None:
    """Parses the flags, sets up devices and runs `main`; a UserError is printed as one line, exit code 1."""

    def parse(argv: list[str]) -> list[str]:
        try:
            _define_config()
            rest = flags.FLAGS(argv)[1:]
        except flags.Error as error:
            _fail(str(error).rpartition("ConfigError: ")[-1])  # a configuration file's own ends its trace
        except (AttributeError, KeyError) as error:  # a path of --config.a.b.c that is not there
            _fail(f"unknown config key {error}")
        if rest:
            _fail(f"unexpected argument {rest[0]!r}; settings are given as --flag=value")
        return argv[:1]

    def guarded(argv: list[str]) -> None:
        del argv
        logging.set_verbosity(logging.ERROR)  # libraries report every file and backend they try
        # Orbax leaves the other reads of a damaged checkpoint unawaited, and asyncio reports each of them.
        std_logging.getLogger("asyncio").setLevel(std_logging.CRITICAL)
        _set_up_cpu(_CPU_DEVICES.value or min(os.cpu_count() or 1, 8))
        try:
            with _processes():
                main()
        except Stopped as stopped:
            print(stopped)
            sys.exit(_SIGTERM_EXIT)
        except UserError as error:
            _fail(str(error))

    app.run(guarded, flags_parser=parse)


def _processes() -> contextlib.AbstractContextManager[None]:
    """The other processes of the run, if the flags or the environment speak of any.

    Raises:
      ConfigError: for flags that contradict each other, or a number of processes without the address where
        they meet: each would train alone.
    """
    if _DISTRIBUTED.value:
        if flags.FLAGS["coordinator"].present:
            raise ConfigError("--distributed finds the coordinator by itself; drop it or --coordinator")
        return together(None, None, None, _JOIN_TIMEOUT.value)
    if _COORDINATOR.value is None:
        if _PROCESSES.value is not None or _PROCESS.value is not None:
            raise ConfigError(
                "--processes and --process need --coordinator=host:port, the address of process 0; give it "
                "too, or neither of them"
            )
        return contextlib.nullcontext()
    return together(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value, _JOIN_TIMEOUT.value)


def _define_config() -> None:
    """Defines --config; unknown keys pass here, so that `from_dict` names them with the known ones."""
    config_flags.DEFINE_config_file(
        "config",
        str(CONFIGS / "quickstart.py"),
        "Configuration file; --config.section.key=value overrides single values.",
        lock_config=False,
        accept_new_attributes=True,
    )


def _fail(message: str) -> NoReturn:
    """Prints `message` on one line and ends with exit code 1.

    It leaves without the interpreter's farewell: reads that a library still had under way, such as those of a
    damaged checkpoint, would report their own failures below the line that says it all.
    """
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _set_up_cpu(devices: int) -> None:
    """Splits the CPU into `devices`; must come before JAX is first used."""
    jax.config.update("jax_num_cpu_devices", devices)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Lets glibc keep what is freed, where there is glibc: a step frees and asks for the same buffers again.

    By default it returns large buffers to the kernel, which then clears every page of them anew: five times
    the page faults (BUILD_NOTES, "Memory").
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option, value in _MALLOC_OPTIONS.items():
            mallopt(option, value)


def report(
    rows: list[dict[str, str | float]],
    path: Path,
    summary: dict[str, str | float] | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Prints `summary` and a table of `rows`, and writes the same figures, and `details`, to `path`."""
    write_json(path, {"summary": summary or {}, "rows": rows, **(details or {})})
    for name, value in (summary or {}).items():
        print(f"{name}: {_show(value)}")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *([_show(row.get(key, "")) for key in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def progress(items: Sequence[T], what: str) -> Iterable[T]:
    """`items` with a progress bar, on process 0."""
    return tqdm(items, desc=what, disable=jax.process_index() != 0)


def _show(value: str | float) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)

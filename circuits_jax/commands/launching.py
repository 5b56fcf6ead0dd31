"""What every command needs: flags to settings, devices, and errors a person can read."""

import contextlib
import ctypes
import errno
import logging as std_logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
from absl import app, flags, logging

from circuits_jax.commands import kept_programs, path_flags, setting_flags
from circuits_jax.commands.missing_device import missing_device
from circuits_jax.runs.cpu_devices import choose
from circuits_jax.runs.opening import is_shipped, load
from circuits_jax.runs.run import Run
from circuits_jax.storage import notices
from circuits_jax.storage.cores import usable_cores
from circuits_jax.storage.errors import ConfigError, UserError
from circuits_jax.storage.output import lost_output
from circuits_jax.storage.paths import as_path, may_be_folder
from circuits_jax.storage.surroundings import settings_of_ours
from circuits_jax.storage.tables import save_table, show_table
from circuits_jax.training.device_memory import ANYTHING, memory_told
from circuits_jax.training.multihost.processes import together

_OF_THE_DISK = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO,
    errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR,
)  # fmt: skip
# glibc's M_MMAP_MAX, M_TRIM_THRESHOLD and M_TOP_PAD: heaps that only grow.  One heap for all threads
# (M_ARENA_MAX = 1) makes them wait for each other: a step takes a tenth to a half longer.
_MALLOC_OPTIONS = {-4: 0, -1: 2**31 - 1, -2: 2**28}
_CPU_DEVICES = flags.DEFINE_string(
    "cpu_devices",
    None,
    "Devices that the CPU is split into where there is no accelerator; auto measures which number is "
    "fastest, once, and notes it in the workdir. By default a run has what it had before, and a new one 2 "
    "where they divide the batch and the bigram table is not trained, else 1. The number changes rounding.",
)


def define_workdir(default: str = "runs/quickstart") -> None:
    """Defines --workdir."""
    flags.DEFINE_string(
        "workdir",
        default,
        "Folder that holds everything of one run, or a bucket's: gs://BUCKET/RUN.",
    )


def define_store() -> None:
    """Defines --store, for the commands that read or make a corpus."""
    flags.DEFINE_string(
        "store",
        None,
        "Folder that runs share their corpora in, as data.store has it; for a run that is there, where its "
        "corpus lies by now.",
    )


def define_processes() -> None:
    """Defines the flags of runs of several processes; raises ConfigError for a variable that is no number."""
    address = os.environ.get("JAX_COORDINATOR_ADDRESS")
    flags.DEFINE_string("coordinator", address, "host:port of process 0 of a run of several.")
    count, index = _number("JAX_NUM_PROCESSES"), _number("JAX_PROCESS_ID")
    flags.DEFINE_integer("processes", count, "Processes of the run; needs --coordinator.")
    flags.DEFINE_integer("process", index, "Number of this process, from 0; needs --coordinator.")
    flags.DEFINE_bool(
        "distributed", False, "Join the processes that JAX finds by itself: TPU pods, SLURM, GKE, Open MPI."
    )
    flags.DEFINE_integer("join_timeout", 300, "Seconds to wait for the other processes.")


def define_model() -> None:
    """Defines --model, for the commands that take any trained model, and --workdir."""
    define_workdir()
    flags.DEFINE_string(
        "model",
        None,
        "shipped, the model that comes with the library, whose results go to --workdir (runs/shipped); a "
        "workdir; a folder or file of a released checkpoint; or hf:owner/name. Default: --workdir.",
    )


def define_changed_tasks() -> None:
    """Defines --changed_tasks, for the commands that take circuits of the user's own tasks."""
    flags.DEFINE_bool(
        "changed_tasks",
        False,
        "Run Python files named by --tasks although no circuit of the run was cut with them as they are.",
    )


def refuse_without(flag: str, *others: str) -> None:
    """Refuses flags that say more of another one, where that is not given: they would do nothing.

    Args:
      flag: The other one's name.
      others: Names of flags that need it.

    Raises:
      ConfigError: if one of them is given without it.
    """
    given = [f"--{name}" for name in others if flags.FLAGS[name].present]
    if given and not flags.FLAGS[flag].present:
        raise ConfigError(f"{' and '.join(given)} would do nothing without --{flag}; give it too")


def refuse_with(flag: str, *others: str) -> None:
    """Refuses flags whose place another one takes.

    Args:
      flag: The other one's name.
      others: Names of flags that do nothing beside it.

    Raises:
      ConfigError: if one of them is given together with it.
    """
    given = [f"--{name}" for name in others if flags.FLAGS[name].present]
    if given and flags.FLAGS[flag].value:
        raise ConfigError(f"{' and '.join(given)} would do nothing beside --{flag}; drop one or the other")


def workdir() -> Path:
    """The folder of the run, local or in a bucket."""
    return as_path(flags.FLAGS.workdir)


def store() -> str | None:
    """What --store, or else --config.data.store names."""
    given = flags.FLAGS
    return given.store or (given.config.data.get("store") if "config" in given else None)


def model_name() -> str:
    """What --model, or else --workdir names."""
    return flags.FLAGS.model or str(workdir())


def open_model() -> Run:
    """The run that --model, or else --workdir names; of the shipped model, with the workdir that is given."""
    name, given = model_name(), flags.FLAGS
    place = given.workdir if is_shipped(name) and given["workdir"].present else None
    return load(name, store=store() if "store" in given else None, workdir=place)


def start(main: Callable[[], None], trains: bool = False) -> None:
    """Parses the flags, sets up devices and runs `main`; a UserError is printed as one line, exit code 1.

    Args:
      main: The command.
      trains: Whether it trains the run that --config describes, whose batch the devices have to divide.
    """

    def parse(argv: list[str]) -> list[str]:
        _tell_flags_in_help()
        try:
            rest = flags.FLAGS(setting_flags.by_files(argv))[1:]
            path_flags.refuse_empty()
        except ConfigError as error:
            fail(str(error))
        except flags.Error as error:
            fail(str(error).rpartition("ConfigError: ")[-1])  # a configuration file's own ends its trace
        except (AttributeError, KeyError) as error:  # a path of --config.a.b.c that is not there
            fail(f"unknown config key {error}")
        if rest:
            fail(f"unexpected argument {rest[0]!r}; settings are given as --flag=value")
        return argv[:1]

    def guarded(argv: list[str]) -> None:
        del argv
        quiet_libraries()
        try:
            _set_up_cpu(trains)
            kept_programs.keep_programs()
            with settings_of_ours(), _processes(), memory_told(ANYTHING):
                try:
                    main()
                finally:
                    notices.tell()
        except UserError as error:
            fail(str(error))
        except OSError as error:
            if error.errno not in _OF_THE_DISK or not error.filename:
                raise
            fail(f"{error.filename} cannot be used: {error.strerror}; what was finished is kept")
        except Exception:
            missing = missing_device()
            if missing is None:
                raise
            fail(missing)
        lost = lost_output()
        if lost is not None:
            fail(f"the command is done, but what it prints could not be written: {lost}")

    app.run(guarded, flags_parser=parse)


def quiet_libraries() -> None:
    """Leaves it to errors to be told of.

    Libraries report every file and backend they try, orbax also the traces of errors that it raises and reads
    of a damaged checkpoint that it leaves unawaited (asyncio).
    """
    logging.set_verbosity(logging.ERROR)
    std_logging.getLogger("absl").setLevel(std_logging.CRITICAL)
    std_logging.getLogger("asyncio").setLevel(std_logging.CRITICAL)


def report(
    rows: Sequence[Mapping[str, Any]],
    path: Path | None,
    summary: Mapping[str, Any] | None = None,
) -> None:
    """Prints `summary` and a table of `rows`; writes the same figures to `path`, if any, or to --out's file.

    Figures that cannot be written are printed all the same, and a line says so.
    """
    print(show_table(rows, summary))
    if path is None:
        return
    given = flags.FLAGS.out if "out" in flags.FLAGS else None
    path = path if given is None else as_path(given)
    try:
        save_table(rows, path, summary)
    except OSError as error:
        why = error.strerror or error
        if given is not None:
            raise UserError(f"--out={given} cannot be written: {why}; name another file") from error
        way_out = "; --out=FILE keeps them elsewhere" if "out" in flags.FLAGS else ""
        print(f"note: the figures are not kept in {path} ({why}){way_out}", file=sys.stderr)


def define_out() -> None:
    """Defines --out, for the commands that only look at a model, which may be another person's."""
    flags.DEFINE_string("out", None, "File for the figures, as JSON; by default in the workdir.")


def fail(message: str) -> NoReturn:
    """Prints `message` on one line and ends with exit code 1.

    It leaves without the interpreter's farewell: reads that a library still had under way, such as those of a
    damaged checkpoint, would report their own failures below the line that says it all.
    """
    print(f"error: {one_line(message)}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def one_line(message: str) -> str:
    """`message` without line ends and what indents lines; spaces within a line are a path's own, say."""
    return " ".join(line.strip() for line in message.splitlines() if line.strip())


def _number(variable: str) -> int | None:
    """An environment variable's number, None if it is not set; raises ConfigError for anything else."""
    text = os.environ.get(variable, "").strip()
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ConfigError(f"the variable {variable} is {text!r}, which is no number; correct it, or unset it")
    return int(text) if text else None


def _processes() -> contextlib.AbstractContextManager[None]:
    """The other processes of the run, if the flags or the environment speak of any.

    Raises:
      ConfigError: for flags that contradict each other, or a number of processes without the address where
        they meet: each would train alone.
    """
    given = flags.FLAGS
    if "distributed" not in given:
        return contextlib.nullcontext()
    if given.distributed:
        if given["coordinator"].present:
            raise ConfigError("--distributed finds the coordinator by itself; drop it or --coordinator")
        return together(None, None, None, given.join_timeout)
    if given.coordinator is None:
        if given.processes is not None or given.process is not None:
            raise ConfigError(
                "--processes and --process need --coordinator=host:port, the address of process 0; give it "
                "too, or neither of them"
            )
        return contextlib.nullcontext()
    return together(given.coordinator, given.processes, given.process, given.join_timeout)


def _tell_flags_in_help() -> None:
    """Makes --help tell the flags of commands, which are not defined in the program's main module."""
    for module, defined in flags.FLAGS.flags_by_module_dict().items():
        if module.startswith(__name__.rpartition(".")[0]):
            for flag in defined:
                flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def _set_up_cpu(trains: bool) -> None:
    """Splits the CPU into devices, and says so where it is not into one; must come before JAX is first used.

    Raises:
      ConfigError: for a number of devices that the run cannot use.
    """
    given = flags.FLAGS
    name = model_name() if "model" in given else given.workdir if "workdir" in given else ""
    folder = as_path(name) if name and may_be_folder(name) and not is_shipped(name) else None
    count = given.processes or 1 if "processes" in given else 1
    devices, why = choose(_CPU_DEVICES.value, setting_flags.read_config() if trains else None, folder, count)
    jax.config.update("jax_num_cpu_devices", devices)
    if devices > usable_cores():  # devices that wait for each other block a thread each
        os.environ.setdefault("PJRT_NPROC", str(2 * devices))
    if why is not None:
        print(f"CPU devices  {why}")
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Lets glibc keep what is freed, where there is glibc: a step frees and asks for the same buffers again.

    By default it returns large buffers to the kernel, which then clears every page of them anew: five times
    the page faults (docs/performance.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option, value in _MALLOC_OPTIONS.items():
            mallopt(option, value)

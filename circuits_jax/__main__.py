"""`python -m circuits_jax COMMAND ...`: every command, for users of a wheel and of a checkout alike."""

# ruff: noqa: E402 - first of all
import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until `watched` begins, an interrupt ends the process as other signals do: without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import contextlib
import functools
import importlib
import inspect  # noqa: F401 - before ours: if Python finds experiments/inspect.py instead, that tells so
import sys
from collections.abc import Callable, Iterator

from circuits_jax.storage.errors import Stopped, UserError
from circuits_jax.storage.output import last_out
from circuits_jax.storage.stopping import asked, end, held, stopped, watched
from circuits_jax.storage.surroundings import settle_shell, wrong_variables

COMMANDS = (
    "pretrain",
    "prune",
    "exhaust",
    "audit",
    "readings",
    "stories",
    "view",
    "tasks",
    "inspect",
    "intervene",
    "generate",
    "export",
    "import_model",
    "planted",
    "tracr",
    "agreement",
    "attack",
    "bridges",
    "steer",
    "frontier",
    "quickstart",
    "configs",
    "device_check",
    "compile",
    "ship",
)
# Those that train the run that --config describes.
_TRAINING = ("pretrain", "bridges", "frontier", "quickstart", "device_check")
_HELP = ("-h", "-help", "--help", "--helpfull")


def run(command: str, arguments: list[str]) -> None:
    """Runs a command with its flags, as if they stood on the command line.

    Args:
      command: Of COMMANDS.
      arguments: Such as ["--workdir=runs/mine"].
    """
    stoppable(functools.partial(_run, command, arguments))


def stoppable(work: Callable[[], None]) -> None:
    """Does the work of a process.

    Asked to stop by a signal, it says so in one line and ends with 128 and the signal's number.
    """
    with watched(ends_process=True):
        try:
            work()
        except BaseException as error:
            if not isinstance(error, Stopped):
                if not asked():
                    raise
                error = stopped(asked())  # which a library made another exception of
            end(str(error), error.code)


def _run(command: str, arguments: list[str]) -> None:
    last_out()
    settle_shell()  # before anything imports JAX
    with held(), _jax_told():  # a signal in an import would become another error, or print a traceback
        module = importlib.import_module(f"circuits_jax.commands.{command}")
        launching = importlib.import_module("circuits_jax.commands.launching")
    sys.argv = [f"python -m circuits_jax {command}", *arguments]
    sys.modules["__main__"].__doc__ = module.__doc__  # what --help tells first
    try:
        sys.argv[1:] = module.name_workdir(arguments) if command == "view" else arguments
        module.define_flags()
    except UserError as error:
        launching.fail(str(error))
    launching.start(module.main, trains=command in _TRAINING)


@contextlib.contextmanager
def _jax_told() -> Iterator[None]:
    """Ends with one line where JAX cannot be imported for the value of a variable."""
    try:
        importlib.import_module("jax")
    except ValueError as error:
        if not (variables := wrong_variables()):
            raise
        print(f"error: JAX does not begin ({error}); unset or correct it: {variables}", file=sys.stderr)
        sys.exit(1)
    yield


def main() -> None:
    """The command that the first argument names."""
    last_out()
    command, *arguments = sys.argv[1:] or ["--help"]
    if command in _HELP:
        print(f"python -m circuits_jax COMMAND, with one of: {', '.join(COMMANDS)}")
        print("python -m circuits_jax COMMAND --help tells its flags.")
    elif command in COMMANDS:
        run(command, arguments)
    else:
        print(f"error: there is no command {command!r}; choose one of {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

"""What every experiment needs: flags to configuration, devices, and errors a person can read."""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import jax
from absl import app, flags, logging
from ml_collections import config_flags
from tqdm import tqdm

from circuits_jax.config import Config, from_dict
from circuits_jax.errors import UserError
from circuits_jax.files import write_json

T = TypeVar("T")

CONFIGS = Path(__file__).parent / "configs"
_CONFIG = config_flags.DEFINE_config_file(
    "config",
    str(CONFIGS / "quickstart.py"),
    "Configuration file; --config.section.key=value overrides single values.",
)
_WORKDIR = flags.DEFINE_string("workdir", "runs/quickstart", "Folder that holds everything of one run.")
_CPU_DEVICES = flags.DEFINE_integer(
    "cpu_devices",
    0,
    "CPU devices to use where there is no accelerator; 0 takes one a core, up to 8. More of them use the "
    "cores better than one device's threads do.",
    lower_bound=0,
)


def read_config() -> Config:
    """The checked configuration that file and flags gave.

    Raises:
      ConfigError: for an unknown key or a value that cannot be used.
    """
    return from_dict(Config, _CONFIG.value.to_dict())


def workdir() -> Path:
    """The folder of the run."""
    return Path(_WORKDIR.value)


def run(main: Callable[[], None]) -> None:
    """Parses the flags, sets up devices and runs `main`; a UserError is printed as one line, exit code 1."""

    def guarded(argv: list[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"unexpected argument {argv[1]!r}; settings are given as --flag=value")
        logging.set_verbosity(logging.ERROR)  # libraries report every file and backend they try
        _set_up_cpu(_CPU_DEVICES.value or min(os.cpu_count() or 1, 8))
        try:
            main()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)

    app.run(guarded)


def _set_up_cpu(devices: int) -> None:
    """Splits the CPU into `devices`; must come before JAX is first used."""
    jax.config.update("jax_num_cpu_devices", devices)
    # A collective blocks a thread of XLA's pool until all devices have joined it; with as few threads as
    # devices two collectives in flight can take them all and wait for each other for ever.
    os.environ.setdefault("PJRT_NPROC", str(8 * devices))


def report(
    rows: list[dict[str, str | float]], path: Path, summary: dict[str, str | float] | None = None
) -> None:
    """Prints `summary` and a table of `rows`, and writes the same figures to `path`."""
    write_json(path, {"summary": summary or {}, "rows": rows})
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

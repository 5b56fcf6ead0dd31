"""What every experiment needs: flags to configuration, devices, and errors a person can read."""

import dataclasses
import os
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_dict, config_flags

from circuits_jax.config import Config, from_dict
from circuits_jax.errors import UserError
from circuits_jax.training.workdir import write_json

CONFIGS = Path(__file__).parent / "configs"
_CPU_DEVICES = flags.DEFINE_integer(
    "cpu_devices",
    0,
    "CPU devices to use where there is no accelerator; 0 takes one a core, up to 8. More of them use the "
    "cores better than one device's threads do.",
    lower_bound=0,
)


def config_flag(default: str) -> flags.FlagHolder:
    """Defines --config=FILE.py, with --config.section.key=value to override single values."""
    return config_flags.DEFINE_config_file("config", str(CONFIGS / default), "Configuration file.")


def to_config_dict(config: Any) -> ConfigDict:
    """A dataclass as a ConfigDict, so that flags can set its values; None becomes a typed placeholder."""
    hints = typing.get_type_hints(type(config))
    values = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            value = to_config_dict(value)
        elif value is None:
            kind = next(t for t in typing.get_args(hints[field.name]) if t is not type(None))
            value = config_dict.placeholder(kind)
        values[field.name] = value
    return ConfigDict(values)


def read_config(values: ConfigDict) -> Config:
    """The checked configuration that flags and file gave.

    Raises:
      ConfigError: for an unknown key or a value that cannot be used.
    """
    return from_dict(Config, values.to_dict())


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


def _show(value: str | float) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)

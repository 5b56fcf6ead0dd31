"""The flag --config and its overrides, and the configurations that they give."""

import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from circuits_jax.config import Config, from_dict, to_dict
from circuits_jax.config.conversion import FORMER_NAMES
from circuits_jax.configs.finding import config_file
from circuits_jax.storage.errors import ConfigError
from circuits_jax.training.workdir import load_config


def define_config(default: str = "quickstart", of_runs: bool = False) -> None:
    """Defines --config; unknown keys pass here, so that `from_dict` names them with the known ones.

    Settings on the command line may have their former names.

    Args:
      default: Of the configurations that come with the library.
      of_runs: Whether it is the run's own that is taken where none is named (`run_config`).
    """
    names = "by default the run's own" if of_runs else f"{default}, ..."
    sys.argv = _by_names_of_today(sys.argv)  # where the flag, as it is defined, looks for overrides
    config_flags.DEFINE_config_file(
        "config",
        config_file(default),
        f"A configuration that comes with the library or a file ({names}); --config.section.key=value "
        "overrides single values.",
        lock_config=False,
        accept_new_attributes=True,
    )


def read_config() -> Config:
    """The checked configuration that file and flags gave.

    Raises:
      ConfigError: for an unknown key or a value that cannot be used.
    """
    try:
        values = flags.FLAGS.config.to_dict()
    except OSError as error:  # raised when the flag is read, with a trace in the message
        raise ConfigError("the file that --config names cannot be read; name one that exists") from error
    if "store" in flags.FLAGS and flags.FLAGS.store and isinstance(values.get("data"), dict):
        values["data"]["store"] = flags.FLAGS.store
    return from_dict(Config, values)


def run_config(folder: Path) -> Config:
    """A trained run's own configuration with what flags override, or that of a file that --config names.

    Args:
      folder: The run's workdir.

    Raises:
      ConfigError: for a folder without a run, an unknown key or a value that cannot be used.
    """
    flag = flags.FLAGS["config"]
    if flag.present:
        return read_config()
    values = to_dict(load_config(folder))
    for dotted, value in config_flags.get_override_values(flag).items():
        *sections, key = dotted.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    return from_dict(Config, values)


def _by_names_of_today(argv: list[str]) -> list[str]:
    """`argv` with settings by their names of today."""
    named = []
    for argument in argv:
        flag, _, value = argument.partition("=")
        section, _, key = flag.rpartition(".")
        known = section.lstrip("-").startswith("config.") and key in FORMER_NAMES
        named += [f"{section}.{name}={value}" for name in FORMER_NAMES[key]] if known else [argument]
    return named


def by_files(argv: list[str]) -> list[str]:
    """`argv` with the file in place of the name that --config gives.

    Raises:
      ConfigError: if there is no such configuration.
    """
    named = list(argv)
    for place, argument in enumerate(argv):
        flag, equals, value = argument.partition("=")
        if flag not in ("--config", "-config"):
            continue
        if equals:
            named[place] = f"{flag}={config_file(value)}"
        elif place + 1 < len(argv):
            named[place + 1] = config_file(argv[place + 1])
    return named

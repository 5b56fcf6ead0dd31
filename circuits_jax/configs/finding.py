"""Configurations by name: one that comes with the library, or a file of the user's."""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from circuits_jax.config import Config, from_dict
from circuits_jax.config.conversion import set_values
from circuits_jax.storage.errors import ConfigError, UserError, check_kind
from circuits_jax.storage.lfs import refuse_pointer_file
from circuits_jax.storage.paths import as_path, exists, is_remote

SHIPPED = Path(__file__).parent
# Configurations lay here in the repository before they came with the library.
_EARLIER = PurePath("experiments/configs")
_HELPERS = ("__init__", "config_dict", "figures", "finding", "paper", "variants")


def shipped_names() -> tuple[str, ...]:
    """Names of the configurations that come with the library."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.py") if path.stem not in _HELPERS))


def config_file(name: str) -> str:
    """The file of the configuration `name`, with what stands after a colon kept: "quickstart", "mine.py:3".

    Raises:
      ConfigError: if no shipped configuration and no file is called so, the file is a Git LFS pointer, or its
        path holds a colon.
    """
    path, variant = _find(name)
    if ":" in str(path):  # the flag would take what follows for an argument
        raise ConfigError(f"the path of the configuration {path} holds a colon; copy the file elsewhere")
    return f"{path}:{variant}" if variant else str(path)


def _find(name: str) -> tuple[Path, str]:
    """The file of a configuration, and its argument."""
    if is_remote(name):
        raise ConfigError(f"the configuration {name} must lie on disk; copy it there")
    places = [len(name), *(place for place, sign in enumerate(name) if sign == ":")]
    for place in sorted(places, reverse=True):  # a file's own name may hold a colon
        if exists(path := as_path(name[:place])) and path.is_file():
            refuse_pointer_file(path, ConfigError)
            return path, name[place + 1 :]
    found, _, variant = name.partition(":")
    earlier = PurePath(found)
    stem = earlier.stem if earlier.parent == _EARLIER and earlier.suffix == ".py" else found
    if stem not in shipped_names():
        raise ConfigError(
            f"there is no configuration {found!r}; name a file, or one that comes with the library: "
            f"{', '.join(shipped_names())}"
        )
    return SHIPPED / f"{stem}.py", variant


def load_config(name: str | Path, settings: Mapping[str, Any] | None = None) -> Config:
    """A configuration, with single settings changed.

        load_config("quickstart", {"train.steps": 8000, "data.roots": ("/my/code",)})

    Args:
      name: One that comes with the library (`shipped_names`), or a Python file with a `get_config()`; what
        stands after a colon is its argument, as in "expansion_sweep:3".
      settings: {"section.field": value}.

    Returns:
      The checked configuration.

    Raises:
      ConfigError: if there is no such configuration, its file cannot be run, a setting is unknown, or a value
        cannot be used.
    """
    check_kind(
        "the configuration", name, (str, os.PathLike), "its name or file, and settings as a second argument"
    )
    check_kind("what changes settings", settings or {}, Mapping, '{"section.field": value}')
    values = _run(*_find(str(name)))
    set_values(values, settings or {})
    return from_dict(Config, values)


def _run(path: Path, variant: str) -> dict[str, Any]:
    """What the `get_config` of a file gives, as nested tables."""
    spec = importlib.util.spec_from_file_location(f"circuits_jax_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"the configuration {path} is no Python file; name one ending in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        found = module.get_config(variant) if variant else module.get_config()
    except UserError:
        raise
    except Exception as error:  # the user's own code may raise whatever it likes
        raise ConfigError(f"the configuration {path} fails: {type(error).__name__}: {error}") from error
    return found.to_dict()

"""Configurations from and to nested tables of plain values."""

import dataclasses
import json
import math
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from circuits_jax.storage.errors import ConfigError

T = TypeVar("T")

# Settings by the names that they had before, in files and flags; what was one may be two now, or none.
FORMER_NAMES: dict[str, tuple[str, ...]] = {
    "heldout_pairs": ("select_pairs", "test_pairs"),
    "resamples": (),
    "margin": (),
}
# Settings that were true or false before, with what these are called now.
FORMER_SWITCHES: dict[str, dict[bool, str]] = {"bigram": {True: "learned", False: "none"}}


def former_switch(name: str, value: Any) -> Any:
    """`value` of the setting `name` as it is called today."""
    return FORMER_SWITCHES.get(name, {}).get(value, value) if isinstance(value, bool) else value


def former_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` of a section with settings by their names of today; a former name, where given, decides."""
    today = {key: value for key, value in values.items() if key not in FORMER_NAMES}
    former = {key: value for key, value in values.items() if key in FORMER_NAMES}
    return today | {name: value for key, value in former.items() for name in FORMER_NAMES[key]}


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as nested dicts of plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def set_values(values: dict[str, Any], settings: Mapping[str, Any]) -> None:
    """Sets {"section.field": value} in nested tables, which `from_dict` checks then.

    Raises:
      ConfigError: for a name that is none of a section's.
    """
    for dotted, value in settings.items():
        section, dot, field = str(dotted).partition(".")
        if not dot or not isinstance(values.get(section), dict):
            known = ", ".join(values)
            raise ConfigError(f"unknown setting {dotted!r}; write SECTION.FIELD, the sections are {known}")
        values[section][field] = value


def from_dict(cls: type[T], values: Mapping[str, Any], where: str = "config") -> T:
    """Builds dataclass `cls` from nested mappings.

    Raises:
      ConfigError: for unknown keys (all of them named, with the known ones) or a wrong type.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} is {values!r}; it must be a table of settings")
    hints = typing.get_type_hints(cls)
    values = former_names(values)
    unknown = [f"{where}.{key}" for key in values if key not in hints]
    if unknown:
        raise ConfigError(f"unknown config key {', '.join(unknown)}; {where} has {', '.join(hints)}")
    given = {
        key: _convert(hints[key], former_switch(key, value), f"{where}.{key}")
        for key, value in values.items()
    }
    return cls(**given)


def _finite(value: float, where: str) -> float:
    try:
        if math.isfinite(value):
            return float(value)
    except OverflowError:  # an integer of more than 308 digits
        pass
    raise ConfigError(f"{where} is not a finite number that a float can hold; give one")


def _convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as type `hint`, or ConfigError naming `where`."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} is {value!r}; it must be a list")
        (item, _) = typing.get_args(hint)
        return tuple(_convert(item, each, f"{where}[{index}]") for index, each in enumerate(value))
    options = typing.get_args(hint) or (hint,)
    if value is None and type(None) in options:
        return None
    if float in options and type(value) in (int, float):
        return _finite(value, where)
    if type(value) not in options:
        names = " or ".join(option.__name__ for option in options)
        raise ConfigError(f"{where} is {value!r}, of type {type(value).__name__}; it must be {names}")
    return value

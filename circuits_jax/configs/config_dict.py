"""Dataclasses as ConfigDicts, whose values flags can set."""

import dataclasses
import typing
from typing import Any

from ml_collections import ConfigDict, config_dict

from circuits_jax.config.conversion import FORMER_SWITCHES


def to_config_dict(config: Any) -> ConfigDict:
    """A dataclass as a ConfigDict, so that flags can set its values; None becomes a typed placeholder.

    What was a switch before takes values of any type: `from_dict` looks at them.
    """
    hints = typing.get_type_hints(type(config))
    values = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            value = to_config_dict(value)
        elif value is None:
            kind = next(t for t in typing.get_args(hints[field.name]) if t is not type(None))
            value = config_dict.placeholder(kind)
        elif field.name in FORMER_SWITCHES:
            value = config_dict.FieldReference(value, field_type=object)
        values[field.name] = value
    return ConfigDict(values)

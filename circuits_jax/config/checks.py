"""Checks of single values: each raises a ConfigError that names the field, the value and what is allowed."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from circuits_jax.storage.errors import ConfigError

T = TypeVar("T", int, str)


def check_choice(field: str, value: T, choices: Iterable[T]) -> None:
    """Raises ConfigError unless `value` is one of `choices`."""
    if value not in choices:
        raise ConfigError(f"{field} is {value!r}; choose one of {', '.join(map(str, choices))}")


def check_positive(field: str, value: float) -> None:
    """Raises ConfigError unless `value` > 0 and a float can hold it."""
    if not value > 0:
        raise ConfigError(f"{field} is {value}; it must be greater than 0")
    _check_finite(field, value)


def check_fraction(field: str, value: float) -> None:
    """Raises ConfigError unless 0 < `value` <= 1."""
    if not 0 < value <= 1:
        raise ConfigError(f"{field} is {value}; a fraction must lie in (0, 1]")


def check_confidence(field: str, value: float) -> None:
    """Raises ConfigError unless 0 < `value` < 1."""
    if not 0 < value < 1:
        raise ConfigError(f"{field} is {value}; a confidence must lie between 0 and 1, as 0.95 does")


def check_not_negative(field: str, value: float) -> None:
    """Raises ConfigError unless `value` >= 0 and a float can hold it."""
    if not value >= 0:
        raise ConfigError(f"{field} is {value}; it must be 0 or more")
    _check_finite(field, value)


def _check_finite(field: str, value: float) -> None:
    if value > sys.float_info.max:
        raise ConfigError(f"{field} is infinite, or too large for a number with a point; give a smaller one")


def check_text(field: str, value: str) -> None:
    """Raises ConfigError if `value` holds half a character, which no UTF-8 file can."""
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ConfigError(f"{field} is {value!r}, which holds half a character; give whole ones")


def check_decay(field: str, value: float) -> None:
    """Raises ConfigError unless 0 <= `value` < 1: the decay of a running mean."""
    if not 0 <= value < 1:
        raise ConfigError(f"{field} is {value}; it must lie in [0, 1)")


def check_seed(field: str, value: int) -> None:
    """Raises ConfigError unless `value` fits every generator that is seeded with it."""
    if not 0 <= value < 2**32:
        raise ConfigError(f"{field} is {value}; a seed must lie in [0, 2**32)")

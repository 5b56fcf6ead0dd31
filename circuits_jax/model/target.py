"""The devices that a program is traced for: those at hand, or others that it is only compiled for."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import NamedTuple

import jax


class DeviceKind(NamedTuple):
    """What tracing asks of devices.

    Attributes:
      platform: "cpu", "gpu" or "tpu".
      number: How many a program may be spread over.
    """

    platform: str
    number: int


_ELSEWHERE: contextvars.ContextVar[DeviceKind | None] = contextvars.ContextVar("elsewhere", default=None)


def target() -> DeviceKind:
    """The devices that what is being traced will run on."""
    return _ELSEWHERE.get() or DeviceKind(jax.default_backend(), jax.device_count())


@contextlib.contextmanager
def compiling_for(platform: str, number: int) -> Iterator[None]:
    """What is traced within the block is for such devices, which need not be at hand.

    Args:
      platform, number: As `DeviceKind` has them.
    """
    token = _ELSEWHERE.set(DeviceKind(platform, number))
    try:
        yield
    finally:
        _ELSEWHERE.reset(token)

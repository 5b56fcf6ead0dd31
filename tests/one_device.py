"""One of the eight devices that the tests' CPU is split into: compiled for one, programs are ready sooner."""

import contextlib
from collections.abc import Iterator
from unittest import mock

import jax


@contextlib.contextmanager
def one_device() -> Iterator[None]:
    """What is made here is spread over one device."""
    with mock.patch.object(jax, "devices", return_value=jax.devices()[:1]):
        yield

"""JAX's settings for the length of a block."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax


@contextlib.contextmanager
def jax_settings(values: Mapping[str, Any]) -> Iterator[None]:
    """Within the block, JAX has these settings; afterwards those of before."""
    before = {name: getattr(jax.config, name) for name in values}
    for name, value in values.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)

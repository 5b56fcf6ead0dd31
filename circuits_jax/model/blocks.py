"""Arrays taken in blocks of rows that stay in a CPU's cache over many passes.

One device works on a block after the other, so that this is for arrays that lie on one device: those that are
spread over a mesh it would gather.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from circuits_jax.model.placement import spread
from circuits_jax.model.target import target

# Entries of a block: 64 KB of float32, beside which the second-level cache has room for what is computed.
ENTRIES = 2**14


def one_cpu() -> bool:
    """Whether arrays lie on one device each, a CPU: what is traced for a mesh of several has others."""
    return target().platform == "cpu" and not spread()


def map_rows(f: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """`f` of x [..., width], some rows at a time.

    Args:
      f: [rows, width] -> [rows, n], each row by itself.
      x: On one device.

    Returns:
      [..., n].
    """
    width, count = x.shape[-1], math.prod(x.shape[:-1])
    # Two at least: XLA takes a loop of one turn apart, and may then compute x anew for each of its uses.
    blocks = max(2, -(-count * width // ENTRIES))
    rows = -(-count // blocks)
    padded = jnp.pad(x.reshape(count, width), ((0, rows * blocks - count), (0, 0)))
    found = jax.lax.map(f, padded.reshape(blocks, rows, width))
    return found.reshape(rows * blocks, -1)[:count].reshape(*x.shape[:-1], -1)

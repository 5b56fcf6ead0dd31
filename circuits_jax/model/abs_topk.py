"""AbsTopK: keep the k entries of largest magnitude in the last axis (docs/method.md, "AbsTopK").

The threshold is found by bisection on the bits of the magnitude, because the order of non-negative
floats is the order of their bits: one count per pass, no sort and no scatter.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax


def abs_top_k(x: jax.Array, k: int | None) -> jax.Array:
    """Zeroes all but the `k` entries of largest magnitude in the last axis.

    Signs are kept; the gradient passes through kept entries only.  Exactly k are kept: among equal
    nonzero magnitudes the lowest index wins.  (Zeros at the threshold count as kept or not alike.)

    Args:
      x: [..., width], float32 or bfloat16.
      k: How many to keep; None or k >= width keeps all, 0 keeps none.

    Returns:
      An array like `x`.
    """
    if k is None or k >= x.shape[-1]:
        return x
    if k <= 0:
        return jnp.zeros_like(x)
    mask = lax.stop_gradient(top_k_mask(lax.stop_gradient(x), k))
    return jnp.where(mask, x, 0)


@functools.partial(jax.jit, static_argnums=1, inline=True)  # one program where nothing around it is compiled
def top_k_mask(x: jax.Array, k: int) -> jax.Array:
    """The bool mask [..., width] of the entries that AbsTopK keeps, 0 < k < width."""
    bits, low_bit = _magnitude_bits(x), 16 if x.dtype == jnp.bfloat16 else 0
    threshold, mask = _threshold(bits, k, low_bit)
    # A tie at the threshold keeps too many; it is rare, so the exact rule hides behind a cond.
    tied = jnp.any((_count(mask) > k) & (threshold > 0))
    return lax.cond(tied, lambda: _break_ties(bits, k, low_bit), lambda: mask)


def top_k_mask_at(x: jax.Array, k: int, columns: jax.Array) -> jax.Array:
    """`top_k_mask(x, k)` at a few `columns` only, bool [..., C]: one pass over x for each of them.

    Args:
      x: [..., width], float32 or bfloat16.
      k: How many of the width are kept.
      columns: int32 [C]; what is no column of x (the width, say) is not kept.
    """
    bits, index = _magnitude_bits(x), jnp.arange(x.shape[-1])
    here = jnp.take(bits, columns, axis=-1, mode="fill", fill_value=-1)
    # An equal magnitude before it comes first, an equal one behind it does not.
    first = (index < columns[:, None]).astype(jnp.int32)
    # Not itself, even if XLA computes the values twice and rounds them differently.
    beats = (bits[..., None, :] + first > here[..., None]) & (index != columns[:, None])
    return _count(beats)[..., 0] < k


def _magnitude_bits(x: jax.Array) -> jax.Array:
    """int32 whose order is the order of |x|."""
    bits = lax.bitcast_convert_type(x.astype(jnp.float32), jnp.int32)
    return bits & 0x7FFFFFFF


def _threshold(bits: jax.Array, k: int, low_bit: int) -> tuple[jax.Array, jax.Array]:
    """(t, bits >= t), where t is the k-th largest of `bits` in the last axis, [..., 1]."""

    def refine(i: int, found: jax.Array) -> jax.Array:
        candidate = found | (1 << (30 - i))
        return jnp.where(_count(bits >= candidate) >= k, candidate, found)

    def compare(i: int, mask: jax.Array) -> jax.Array:
        del mask
        return bits >= threshold + (1 - i)

    threshold = lax.fori_loop(0, 31 - low_bit, refine, jnp.zeros_like(bits[..., :1]))
    # Loops read `bits` from memory.  Outside of one XLA may compute them anew, and if that rounds
    # differently, the entry that is the threshold falls below it.  A loop of one pass would be taken apart.
    return threshold, lax.fori_loop(0, 2, compare, jnp.zeros_like(bits, bool))


def _count(mask: jax.Array) -> jax.Array:
    # A float32 sum of 0s and 1s is exact at these widths and vectorises better than an integer one.
    return jnp.sum(mask.astype(jnp.float32), axis=-1, keepdims=True)


def _break_ties(bits: jax.Array, k: int, low_bit: int) -> jax.Array:
    """Keeps what is above the threshold and, of what equals it, the first entries up to k in all."""
    threshold, _ = _threshold(bits, k, low_bit)  # of this branch's own copy of `bits`
    above = bits > threshold
    equal = bits == threshold
    rank = jnp.cumsum(equal, axis=-1, dtype=jnp.int32)
    return above | (equal & (rank <= k - _count(above)))

"""The entries of largest magnitude, exactly, for a traced count, on sharded arrays.

The order of magnitudes is the order of the bit patterns of |x|, so the k-th largest magnitude is an
integer that a bracketing search finds by counting alone.  Counting is a reduction: on a mesh the devices
exchange counts and never weights, where a sort or top_k would gather the tensor.  Everything here is exact
and deterministic; among equal magnitudes the entry of lowest flat index (row-major) comes first.

Arrays sharded over a mesh must have automatic axes (`AxisType.Auto`).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from circuits_jax.model import scopes

# After so many interpolated passes the search only halves, so that it ends whatever the distribution.
_INTERPOLATED_PASSES = 20
_USUAL_PASSES = 13  # of a search
# The largest number of ones that a float32 sum still counts exactly.
_FLOAT_COUNT = 2**24
_UNSIGNED = {2: jnp.uint16, 4: jnp.uint32}


def magnitude_bits(x: Array) -> Array:
    """The bit pattern of |x|, which orders as |x| does (NaN after infinity; -0 equals 0).

    Args:
      x: Floating-point array of 16 or 32 bits.

    Returns:
      uint32 array of x's shape, below 2**31.

    Raises:
      TypeError: for any other type.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating) or x.dtype.itemsize not in _UNSIGNED:
        raise TypeError(f"magnitudes of {x.dtype} cannot be ordered; use float32, bfloat16 or float16")
    unsigned = _UNSIGNED[x.dtype.itemsize]
    bits = lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)
    return bits & jnp.uint32(jnp.iinfo(unsigned).max >> 1)


def largest_mask(x: Array, k: Array | int, first: Array | None = None) -> Array:
    """Marks exactly the k entries of largest |x|, ties by flat index, lowest first.

    Args:
      x: Float array [..., n] of fewer than 2**31 entries.
      k: int32 scalar, may be traced; clipped to 1 ... x.size.
      first: Optional bool mask of x's shape: entries that come before all others, whatever their size.

    Returns:
      bool array of x's shape with exactly k entries True.
    """
    bits = magnitude_bits(x)
    above_all = _above_all(x)
    if first is not None:
        bits, above_all = jnp.where(first, above_all, bits), above_all + jnp.uint32(1)
    k = jnp.clip(jnp.asarray(k, jnp.int32), 1, x.size)
    cut = _search(lambda t: _count(bits >= t), k, x.size, above_all)

    def keep_first_of_tied() -> Array:
        tied = bits == cut.low
        order = jnp.uint32(x.size) - _flat_index(x.shape)  # 1 for the last entry
        missing, found = k - cut.above, cut.count - cut.above
        tie_cut = _search(lambda t: _count(tied & (order >= t)), missing, found, jnp.uint32(x.size + 1))
        return (bits > cut.low) | (tied & (order >= tie_cut.low))

    with scopes.rarely(False):
        return lax.cond(cut.count == k, lambda: bits >= cut.low, keep_first_of_tied)


def largest_mask_along(x: Array, j: int, axis: int) -> Array:
    """Marks, in every slice along `axis`, exactly the min(j, size) entries of largest |x|; ties as above.

    Takes j rounds of two reductions along `axis`: meant for small j.

    Args:
      x: Float array.
      j: Entries to mark in each slice, 0 or more.
      axis: The axis along which entries compete.

    Returns:
      bool array of x's shape.
    """
    index = lax.broadcasted_iota(jnp.int32, x.shape, axis)

    def take_one(_: Array, bits: Array) -> Array:
        top = jnp.max(bits, axis, keepdims=True)
        winner = jnp.min(jnp.where(bits == top, index, x.shape[axis]), axis, keepdims=True)
        return jnp.where(index == winner, 0, bits)

    untaken = magnitude_bits(x) + jnp.uint32(1)
    return lax.fori_loop(0, min(j, x.shape[axis]), take_one, untaken) == 0


class _Bracket(NamedTuple):
    """A bracket low <= cut < high of a search, with what is known at its ends."""

    low: Array  # uint32; count(low) >= k
    high: Array  # uint32; count(high) < k
    count: Array  # type: ignore[assignment]  # int32, count(low); hides tuple.count
    above: Array  # int32, count(high)
    low_excess: Array  # float32, count(low) - k, halved while `low` stands still
    high_excess: Array  # float32, the same at `high`
    moved_low: Array  # bool, whether the last pass moved `low`
    passes: Array  # int32


def _search(count: Callable[[Array], Array], k: Array, total: Array | int, high: Array) -> _Bracket:
    """Finds the largest cut with count(cut) >= k, or any cut with count(cut) == k.

    `count` falls from `total` at 0 to 0 at `high`, and 1 <= k <= total.  The passes follow the Illinois rule
    (regula falsi that halves the weight of an end which stays put), which takes 10 to 15 of them where
    bisection takes 20 to 31; all that it decides is where to count next, so rounding cannot harm the result.
    """

    def unfinished(b: _Bracket) -> Array:
        return (b.high - b.low > 1) & (b.count != k)

    def narrow(b: _Bracket) -> _Bracket:
        width = b.high - b.low
        share = b.low_excess / (b.low_excess - b.high_excess)
        interpolated = (width.astype(jnp.float32) * share).astype(jnp.uint32)
        step = jnp.where(b.passes < _INTERPOLATED_PASSES, interpolated, width // 2)
        middle = b.low + jnp.clip(step, 1, width - 1)
        counted = count(middle)
        excess = (counted - k).astype(jnp.float32)
        move_low = counted >= k
        stale = jnp.where(move_low == b.moved_low, 0.5, 1.0)
        return _Bracket(
            low=jnp.where(move_low, middle, b.low),
            high=jnp.where(move_low, b.high, middle),
            count=jnp.where(move_low, counted, b.count),
            above=jnp.where(move_low, b.above, counted),
            low_excess=jnp.where(move_low, excess, b.low_excess * stale),
            high_excess=jnp.where(move_low, b.high_excess * stale, excess),
            moved_low=move_low,
            passes=b.passes + 1,
        )

    total = jnp.asarray(total, jnp.int32)
    start = _Bracket(
        low=jnp.uint32(0),
        high=high,
        count=total,
        above=jnp.int32(0),
        low_excess=(total - k).astype(jnp.float32),
        high_excess=-k.astype(jnp.float32),
        moved_low=jnp.bool_(False),
        passes=jnp.int32(0),
    )
    with scopes.about_turns(_USUAL_PASSES):
        return lax.while_loop(unfinished, narrow, start)


def _above_all(x: Array) -> Array:
    """A uint32 scalar greater than the bits of every |x|, and close to them unless x holds NaN.

    A float maximum is many times faster than an integer one on CPU, but may lose NaN payloads and
    subnormals: then the bound is only the type's.
    """
    top = jnp.max(jnp.abs(x))
    smallest_normal = jnp.asarray(jnp.finfo(x.dtype).tiny, x.dtype)
    bits = jnp.maximum(magnitude_bits(top), magnitude_bits(smallest_normal))
    return jnp.where(jnp.isnan(top), jnp.uint32(2**31), bits + jnp.uint32(1))


def _count(mask: Array) -> Array:
    """Number of True entries, int32, exact.

    Float sums are up to twice as fast as integer sums on CPU; past 2**24 entries they stay exact by rows.
    """
    if mask.size <= _FLOAT_COUNT:
        return jnp.sum(mask, dtype=jnp.float32).astype(jnp.int32)
    dtype = jnp.float32 if mask.shape[-1] <= _FLOAT_COUNT else jnp.int32
    return jnp.sum(jnp.sum(mask, axis=-1, dtype=dtype).astype(jnp.int32))


def _flat_index(shape: tuple[int, ...]) -> Array:
    """Row-major index of every entry, uint32, computed in place on each device of a mesh."""
    index = jnp.zeros(shape, jnp.uint32)
    for axis, size in enumerate(shape):
        index = index * jnp.uint32(size) + lax.broadcasted_iota(jnp.uint32, shape, axis)
    return index

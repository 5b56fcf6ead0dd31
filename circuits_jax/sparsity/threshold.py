"""The entries of largest magnitude, exactly, for a traced count, on sharded arrays.

The order of magnitudes is the order of the bit patterns of |x|, so the k-th largest magnitude is an
integer that a search (`sparsity.search`) finds by counting alone.  Counting is a reduction: on a mesh the
devices exchange counts and never weights, where a sort or top_k would gather the tensor.  Everything here is
exact and deterministic; among equal magnitudes the entry of lowest flat index (row-major) comes first.

Arrays sharded over a mesh must have automatic axes (`AxisType.Auto`).
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax

from circuits_jax.model import scopes
from circuits_jax.model.blocks import one_cpu
from circuits_jax.sparsity.search import Guess, search_cut

# The largest number of ones that a float32 sum still counts exactly.
_FLOAT_COUNT = 2**24
# From this length on a row's two counts do not fit one int32.
_LONG_ROW = 2**15
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
    bits, above_all = magnitude_bits(x), _above_all(x)
    if first is not None:
        bits, above_all = jnp.where(first, above_all, bits), above_all + jnp.uint32(1)
    return _largest(bits, k, above_all, None)[0]


def guessed_mask(x: Array, k: Array | int, guess: Guess, first: Array | None = None) -> tuple[Array, Guess]:
    """`largest_mask` by fewer counts, where the guess is near; and the guess for the next time."""
    bits, above_all = magnitude_bits(x), jnp.uint32(2**31)
    if first is not None:
        bits, above_all = jnp.where(first, above_all, bits), above_all + jnp.uint32(1)
    return _largest(bits, k, above_all, guess)


def _largest(bits: Array, k: Array | int, above_all: Array, guess: Guess | None) -> tuple[Array, Guess]:
    """(the mask of the k largest of `bits`, all below `above_all`; the next guess)."""
    k = jnp.clip(jnp.asarray(k, jnp.int32), 1, bits.size)
    cut = search_cut(lambda *at: _counts(lambda t: bits >= t, *at), k, bits.size, above_all, guess)

    def keep_first_of_tied() -> Array:
        tied = bits == cut.low
        order = jnp.uint32(bits.size) - _flat_index(bits.shape)  # 1 for the last entry
        missing, found = k - cut.above, cut.count - cut.above
        end = jnp.uint32(bits.size + 1)
        late = search_cut(lambda *at: _counts(lambda t: tied & (order >= t), *at), missing, found, end, None)
        return (bits > cut.low) | (tied & (order >= late.low))

    with scopes.rarely(False):
        mask = lax.cond(cut.count == k, lambda: bits >= cut.low, keep_first_of_tied)
    return mask, Guess(cut.low, cut.gap)


def largest_mask_along(x: Array, j: int, axis: int) -> Array:
    """Marks, in every slice along `axis`, exactly the min(j, size) entries of largest |x|; ties as above.

    Reads x twice: one reduction carries the j largest entries so far of each slice, which devices that share
    a slice exchange.  Meant for small j: what it computes with each entry grows with the square of j.

    Args:
      x: Float array.
      j: Entries to mark in each slice, 0 or more.
      axis: The axis along which entries compete.

    Returns:
      bool array of x's shape.
    """
    if j == 0 or j >= x.shape[axis]:
        return jnp.full(x.shape, j > 0)
    bits = magnitude_bits(x) + jnp.uint32(1)
    nothing = (jnp.zeros_like(bits),) * (j - 1)
    largest = lax.reduce((bits, *nothing), (jnp.uint32(0),) * j, _largest_of_both, (axis % x.ndim,))
    mask = bits >= jnp.expand_dims(largest[-1], axis)
    tied = jnp.any(jnp.sum(mask, axis, dtype=jnp.int32) > j)
    with scopes.rarely(True):
        return lax.cond(tied, lambda: _one_by_one(bits, j, axis), lambda: mask)


def _largest_of_both(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    """The largest of two lists in falling order, as many as each has, in falling order."""
    found = [jnp.maximum(*each) for each in zip(a, reversed(b), strict=True)]  # they are these, out of order
    for unordered in range(len(found) - 1, 0, -1):
        for at in range(unordered):
            found[at], found[at + 1] = jnp.maximum(*found[at : at + 2]), jnp.minimum(*found[at : at + 2])
    return tuple(found)


def _one_by_one(untaken: Array, j: int, axis: int) -> Array:
    """`largest_mask_along` of positive bits, where some are equal."""
    index = lax.broadcasted_iota(jnp.int32, untaken.shape, axis)

    def take_one(_: Array, bits: Array) -> Array:
        top = jnp.max(bits, axis, keepdims=True)
        winner = jnp.min(jnp.where(bits == top, index, bits.shape[axis]), axis, keepdims=True)
        return jnp.where(index == winner, 0, bits)

    return lax.fori_loop(0, j, take_one, untaken) == 0


def _above_all(x: Array) -> Array:
    """A uint32 scalar greater than the bits of every |x|, and close to them unless x holds NaN.

    A float maximum is many times faster than an integer one on CPU, but may lose NaN payloads and
    subnormals: then the bound is only the type's.
    """
    top = jnp.max(jnp.abs(x))
    smallest_normal = jnp.asarray(jnp.finfo(x.dtype).tiny, x.dtype)
    bits = jnp.maximum(magnitude_bits(top), magnitude_bits(smallest_normal))
    return jnp.where(jnp.isnan(top), jnp.uint32(2**31), bits + jnp.uint32(1))


def _counts(marks: Callable[[Array], Array], one: Array, other: Array) -> tuple[Array, Array]:
    """The numbers of entries that `marks` marks at two thresholds, int32, exact, by one pass over them.

    A CPU would read the entries twice, so that there one sum holds both counts of a row; on a mesh such sums
    of rows would be exchanged, and XLA for accelerators makes one pass of two reductions itself.
    """
    low, high = marks(one), marks(other)
    if not one_cpu() or low.shape[-1] >= _LONG_ROW:
        return _count(low), _count(high)
    both = jnp.sum(low.astype(jnp.int32) + (high.astype(jnp.int32) << 16), axis=-1)
    return jnp.sum(both & 0xFFFF), jnp.sum(both >> 16)


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

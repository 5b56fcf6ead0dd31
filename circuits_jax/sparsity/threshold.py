"""The entries of largest magnitude, exactly, for a traced count, on sharded arrays.

The order of magnitudes is the order of the bit patterns of |x|, so the k-th largest magnitude is an
integer that a bracketing search finds by counting alone.  Counting is a reduction: on a mesh the devices
exchange counts and never weights, where a sort or top_k would gather the tensor.  Everything here is exact
and deterministic; among equal magnitudes the entry of lowest flat index (row-major) comes first.

Arrays sharded over a mesh must have automatic axes (`AxisType.Auto`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from circuits_jax.model import scopes

# After so many interpolated passes the search only halves, so that it ends whatever the distribution.
_INTERPOLATED_PASSES = 20
_USUAL_PASSES, _GUESSED_PASSES = 13, 6  # of a search, without a guess and with one (docs/tpu.md)
_TELLING = 16  # entries between two counts from which on these tell the gap; fewer change it by 2 at most
_BEYOND = 1.25  # how much farther than to its aim a step goes, so that the aim lies behind it
# The largest number of ones that a float32 sum still counts exactly.
_FLOAT_COUNT = 2**24
_UNSIGNED = {2: jnp.uint16, 4: jnp.uint32}


class Guess(NamedTuple):
    """Where a search found its cut the last time; the next one, of about the same entries, begins there.

    A guess decides where to count first, and nothing of the result.  Those of many tensors are trees.

    Attributes:
      cut: uint32 scalar, as magnitude bits; 0 for no guess.
      gap: float32 scalar, magnitude bits between neighbours near the cut; 0 for not known.
    """

    cut: Any
    gap: Any


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
    cut = _search(lambda t: _count(bits >= t), k, bits.size, above_all, guess)

    def keep_first_of_tied() -> Array:
        tied = bits == cut.low
        order = jnp.uint32(bits.size) - _flat_index(bits.shape)  # 1 for the last entry
        missing, found = k - cut.above, cut.count - cut.above
        end = jnp.uint32(bits.size + 1)
        tie_cut = _search(lambda t: _count(tied & (order >= t)), missing, found, end, None)
        return (bits > cut.low) | (tied & (order >= tie_cut.low))

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


class _Bracket(NamedTuple):
    """A bracket low <= cut < high of a search, with what is known at its ends."""

    low: Array  # uint32; count(low) >= k
    high: Array  # uint32; count(high) < k
    count: Array  # type: ignore[assignment]  # int32, count(low); hides tuple.count
    above: Array  # int32, count(high)
    low_excess: Array  # float32, count(low) - k, halved while `low` stands still
    high_excess: Array  # float32, the same at `high`
    moved_low: Array  # bool, whether the last pass moved `low`
    closed: Array  # bool, whether both ends have moved
    gap: Array  # float32, as `Guess` has it
    passes: Array  # int32


def _search(
    count: Callable[[Array], Array], k: Array, total: Array | int, high: Array, guess: Guess | None
) -> _Bracket:
    """Finds the largest cut with count(cut) >= k, or any cut with count(cut) == k.

    `count` falls from `total` at 0 to 0 at `high`, and 1 <= k <= total.  The first pass counts at the guess;
    the next ones step from there, by the gap between entries, a little too far, until the cut lies between
    two counts.  From then on, and without a guess, passes follow the Illinois rule (regula falsi that halves
    the weight of an end which stays put).  Without a guess it takes 10 to 15 of them, where bisection takes
    20 to 31.  All that is decided so is where to count next, so that rounding cannot harm the result.
    """
    usual = _USUAL_PASSES if guess is None else _GUESSED_PASSES
    guess = Guess(jnp.uint32(0), jnp.float32(0)) if guess is None else guess

    def unfinished(b: _Bracket) -> Array:
        return (b.high - b.low > 1) & (b.count != k)

    def next_cut(b: _Bracket) -> Array:
        width = b.high - b.low
        share = b.low_excess / (b.low_excess - b.high_excess)
        between = (width.astype(jnp.float32) * share).astype(jnp.uint32)
        entries = jnp.where(
            b.moved_low, b.low_excess, -b.high_excess
        )  # to the cut, from where was counted last
        stride = (entries * _BEYOND + 1) * b.gap * 2.0 ** b.passes.astype(jnp.float32)
        stride = jnp.minimum(stride / 2, width.astype(jnp.float32)).astype(jnp.uint32)
        beyond = jnp.where(b.moved_low, stride, width - jnp.minimum(stride, width))
        stepping = (b.passes > 0) & ~b.closed & (b.gap > 0)
        step = jnp.where(stepping, beyond, between)
        step = jnp.where(b.passes < _INTERPOLATED_PASSES, step, width // 2)
        step = jnp.where((b.passes == 0) & (guess.cut > 0), guess.cut, step)
        return b.low + jnp.clip(step, 1, width - 1)

    def narrow(b: _Bracket) -> _Bracket:
        middle = next_cut(b)
        counted = count(middle)
        excess = (counted - k).astype(jnp.float32)
        move_low = counted >= k
        turned = (move_low != b.moved_low) & (b.passes > 0)
        stale = jnp.where(turned | (b.passes == 0), 1.0, 0.5)
        low, high = jnp.where(move_low, middle, b.low), jnp.where(move_low, b.high, middle)
        low_excess = jnp.where(move_low, excess, b.low_excess * stale)
        high_excess = jnp.where(move_low, b.high_excess * stale, excess)
        last, last_excess = (
            jnp.where(b.moved_low, *ends) for ends in ((b.low, b.high), (b.low_excess, b.high_excess))
        )
        apart = jnp.maximum(middle, last) - jnp.minimum(middle, last)
        entries = jnp.maximum(jnp.abs(excess - last_excess), 0.5)
        gap = apart.astype(jnp.float32) / entries
        gap = jnp.where((entries >= _TELLING) | (b.gap == 0), gap, jnp.clip(gap, b.gap / 2, b.gap * 2))
        return _Bracket(
            low=low,
            high=high,
            count=jnp.where(move_low, counted, b.count),
            above=jnp.where(move_low, b.above, counted),
            low_excess=low_excess,
            high_excess=high_excess,
            moved_low=move_low,
            closed=b.closed | turned,
            gap=jnp.where(b.closed | (b.passes == 0) | (guess.cut == 0), b.gap, gap),
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
        closed=jnp.bool_(False),
        gap=guess.gap,
        passes=jnp.int32(0),
    )
    with scopes.about_turns(usual):
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

"""A search for the cut that a given number of entries reach, by counting at two places in each pass.

A pass costs one reading of the entries, however often it counts.  Where the k-th of n entries lies that are
spread evenly over a bracket is known from order statistics: its place has the mean and the deviation of a
Beta distribution, so that two counts, on either side of the mean, leave some sqrt(n) entries.  Only counts
decide what is found; all else decides where to count next, so that rounding cannot harm the result.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from circuits_jax.model import scopes

# After so many passes the search only splits its bracket in three, so that it ends whatever the distribution.
_INTERPOLATED_PASSES = 20
_USUAL_PASSES, _GUESSED_PASSES = 12, 4  # of a search, without a guess and with one (docs/tpu.md)
_AROUND = 6.0  # entries on either side of a guess where the first pass counts
_BEYOND = (1.0, 3.0)  # how far to step from the last count, in parts of the way that its entries tell
_DEVIATIONS = 0.5  # from the mean of the cut's place, on either side
_SHRINKS = 3.0  # deviations of the cut's place that a pass may leave before the entries do not lie evenly
_TELLING = 8  # entries in the bracket from which on these tell the gap

Counts = Callable[[Array, Array], tuple[Array, Array]]
"""The numbers of entries that reach two places, uint32 scalars, as int32 scalars."""


class Guess(NamedTuple):
    """Where a search found its cut the last time; the next one, of about the same entries, begins there.

    A guess decides where to count first, and nothing of the result.  Those of many tensors are trees.

    Attributes:
      cut: uint32 scalar, as magnitude bits; 0 for no guess.
      gap: float32 scalar, magnitude bits between neighbours near the cut; 0 for not known.
    """

    cut: Any
    gap: Any


class Bracket(NamedTuple):
    """A bracket low <= cut < high of a search, with what is known at its ends.

    Attributes:
      low: uint32; at least k entries reach it.
      high: uint32; fewer than k reach it.
      count: int32, how many reach `low`.
      above: int32, how many reach `high`.
      gap: float32, as `Guess` has it.
      passes: int32, made so far.
    """

    low: Array
    high: Array
    count: Array  # type: ignore[assignment]  # hides tuple.count
    above: Array
    gap: Array
    passes: Array
    moved_low: Array  # bool, whether `low` was counted
    moved_high: Array
    uneven: Array  # bool, whether the last pass left more entries than it would of entries that lie evenly


def search_cut(counts: Counts, k: Array, total: Array | int, high: Array, guess: Guess | None) -> Bracket:
    """Finds the largest cut that k entries reach, or any cut that exactly k reach.

    The first pass counts around the guess.  If the cut is not there, the next ones step towards it, by the
    gap between entries, until it lies between two counts; from then on, and without a guess, passes count
    where the cut is expected, or split the bracket in three where entries do not lie evenly.  In training a
    search takes some 4 passes with a guess, and some 12 without.

    Args:
      counts: Falls from `total` at 0 to 0 at `high`.
      k: int32 scalar, 1 <= k <= total.
      total: How many entries there are.
      high: uint32 scalar that no entry reaches.
      guess: Where to begin; None for no guess.

    Returns:
      A bracket whose `low` is the cut.
    """
    usual = _USUAL_PASSES if guess is None else _GUESSED_PASSES
    guess = Guess(jnp.uint32(0), jnp.float32(0)) if guess is None else guess

    def unfinished(b: Bracket) -> Array:
        return (b.high - b.low > 1) & (b.count != k)

    def narrow(b: Bracket) -> Bracket:
        closed = (b.moved_low & b.moved_high) | (guess.cut == 0) | (b.gap == 0)
        places = _places(b, k, guess, closed)
        found = counts(*places)
        left = b
        for at, count in zip(places, found, strict=True):
            left = _moved(left, at, count, count >= k)
        entries, before = ((each.count - each.above).astype(jnp.float32) for each in (left, b))
        expected = jnp.maximum(_SHRINKS * jnp.sqrt(before), 4)
        gap = (left.high - left.low).astype(jnp.float32) / jnp.maximum(entries, 1)
        telling = left.moved_low & left.moved_high & (entries >= _TELLING)
        return left._replace(
            gap=jnp.where(telling, gap, b.gap),
            passes=b.passes + 1,
            uneven=closed & (entries > jnp.where(b.uneven, before / 2, expected)),
        )

    no = jnp.bool_(False)
    total = jnp.asarray(total, jnp.int32)
    start = Bracket(
        jnp.uint32(0),
        high,
        total,
        jnp.int32(0),
        guess.gap,
        jnp.int32(0),
        moved_low=no,
        moved_high=no,
        uneven=no,
    )
    with scopes.about_turns(usual):
        return lax.while_loop(unfinished, narrow, start)


def _moved(b: Bracket, at: Array, count: Array, reached: Array) -> Bracket:
    """The bracket after a count, which says whether k entries reach the place `at`."""
    low, high = reached & (at > b.low), ~reached & (at < b.high)
    return b._replace(
        low=jnp.where(low, at, b.low),
        high=jnp.where(high, at, b.high),
        count=jnp.where(low, count, b.count),
        above=jnp.where(high, count, b.above),
        moved_low=b.moved_low | low,
        moved_high=b.moved_high | high,
    )


def _places(b: Bracket, k: Array, guess: Guess, closed: Array) -> tuple[Array, Array]:
    """Where to count next, twice, inside of the bracket."""
    width = b.high - b.low
    wide = width.astype(jnp.float32)
    entries = (b.count - b.above).astype(jnp.float32)
    share = ((b.count - k).astype(jnp.float32) + 0.5) / (entries + 1)  # of the entries, to the cut
    deviation = jnp.sqrt(share * (1 - share) / (entries + 1))
    even = b.uneven | (b.passes >= _INTERPOLATED_PASSES)
    # Entries from the end that was counted to the cut, and somewhat more, since the gap is not known well.
    steps = jnp.where(b.moved_low, b.count - k, k - b.above).astype(jnp.float32) + 2
    stride = steps * b.gap * 2.0 ** (b.passes - 1).astype(jnp.float32)
    around = _uint32(_AROUND * guess.gap, wide)

    def place(sign: int, third: int, beyond: float) -> Array:
        expected = _uint32(wide * (share + sign * _DEVIATIONS * deviation), wide)
        step = _uint32(stride * beyond, wide)
        stepped = jnp.where(b.moved_low, step, width - jnp.minimum(step, width))
        offset = jnp.where(even, width // 3 * third, expected)
        offset = jnp.where(closed | even, offset, stepped)
        near = guess.cut + around if sign > 0 else guess.cut - jnp.minimum(around, guess.cut)
        first = jnp.minimum(near, jnp.uint32(2**31))  # from low, which is 0 then
        offset = jnp.where((b.passes == 0) & (guess.cut > 0), first, offset)
        return b.low + jnp.clip(offset, 1, width - 1)

    return place(-1, 1, _BEYOND[0]), place(1, 2, _BEYOND[1])


def _uint32(x: Array, most: Array) -> Array:
    """x, between 0 and `most`, which is below 2**32."""
    return jnp.clip(x, 0, most).astype(jnp.uint32)

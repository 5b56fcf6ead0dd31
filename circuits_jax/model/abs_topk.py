"""AbsTopK: keep the k entries of largest magnitude in the last axis (docs/method.md, "AbsTopK").

The threshold is found by counting: the order of non-negative floats is the order of their bits, so that it
is an integer that a search narrows down, one count per pass, with no sort and no scatter.  Three searches
find the same mask.  Bisection takes 31 passes over the whole array, which may be split over a mesh in any
axis.  A search that guesses takes a dozen; on a CPU it goes over some rows at a time, which stay in the
cache.  A kernel (`topk_kernel`) bisects rows that it has brought to an accelerator's chip.
"""

import functools
import math
from statistics import NormalDist
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from circuits_jax.model import kernels, scopes, topk_kernel
from circuits_jax.model.blocks import map_rows, one_cpu
from circuits_jax.model.placement import ROWS, Axes, by_device, each_has_its_own, splits

INFINITY, MOST = 0x7F800000, 0x7FFFFFFF  # as bits; those of NaN lie between
SMALL = 2**15  # entries that a cache holds anyway: bisection is compiled sooner
GUESSES = 12  # passes after which the search only halves, so that it ends whatever the distribution


def abs_top_k(x: jax.Array, k: int | None, cached: bool | None = None, axes: Axes = ROWS) -> jax.Array:
    """Zeroes all but the `k` entries of largest magnitude in the last axis.

    Signs are kept; the gradient passes through kept entries only.  Exactly k are kept: among equal
    nonzero magnitudes the lowest index wins.  (Zeros at the threshold all count as kept.)

    Args:
      x: [..., width], float32 or bfloat16.
      k: How many to keep; None or k >= width keeps all, 0 keeps none.
      cached: As `top_k_mask` has it.
      axes: How x lies on the mesh that it is traced for, if there is one.

    Returns:
      An array like `x`.
    """
    if k is None or k >= x.shape[-1]:
        return x
    if k <= 0:
        return jnp.zeros_like(x)
    with scopes.part(scopes.ABS_TOPK):
        kept = _by_kernel(x, k, axes)
        if kept is not None:
            return kept
        mask = lax.stop_gradient(top_k_mask(lax.stop_gradient(x), k, cached))
        return jnp.where(mask, x, 0)


def _by_kernel(x: jax.Array, k: int, axes: Axes) -> jax.Array | None:
    """`abs_top_k` by a kernel; None where none is wanted, or where devices share the rows."""
    if not kernels.wanted() or x.shape[-1] > topk_kernel.WIDEST or not x.size:
        return None
    if any(splits(axis, axes) for axis in (-1, x.ndim - 1)):
        return None
    if not each_has_its_own((x,), (axes,)):
        return None
    return topk_kernel.kernel_top_k(x, k, lambda call, rows: by_device(call, (rows,), (axes,), axes))


def top_k_mask(x: jax.Array, k: int, cached: bool | None = None) -> jax.Array:
    """The bool mask [..., width] of the entries that AbsTopK keeps, 0 < k < width.

    Args:
      x: [..., width], float32 or bfloat16.
      k: How many are kept.
      cached: Whether some rows are taken at a time, for an array that lies on one device; None for where that
        is a CPU and the array not small.  The mask is the same.
    """
    if cached is None:
        cached = x.size > SMALL and one_cpu()
    return _top_k_mask(x, k, cached)


@functools.partial(jax.jit, static_argnums=(1, 2), inline=True)  # a program of its own outside of others
def _top_k_mask(x: jax.Array, k: int, cached: bool) -> jax.Array:
    if cached:
        return map_rows(lambda rows: _guessed_mask(rows, k), x)
    bits, low_bit = _magnitude_bits(x), 16 if x.dtype == jnp.bfloat16 else 0
    threshold, mask = _threshold(bits, k, low_bit)
    # A tie at the threshold keeps too many; it is rare, so the exact rule hides behind a cond.
    tied = jnp.any((_count(mask) > k) & (threshold > 0))
    with scopes.rarely(True):
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


class _Guesses(NamedTuple):
    """Where the threshold of each row lies, [rows, 1] each: low <= threshold < high.

    Attributes:
      passes: int32 scalar.
      low, high: int32 bits; k entries or more are at least `low`, fewer are at least `high`.
      over, under: float32, how many more than k, and how many fewer; halved while their end stands still.
      last: int32 bits, where the last pass counted.
      excess: float32, what it counted, minus k.
    """

    passes: jax.Array | int
    low: jax.Array
    high: jax.Array
    over: jax.Array
    under: jax.Array
    last: jax.Array
    excess: jax.Array


def _guessed_mask(x: jax.Array, k: int) -> jax.Array:
    """`top_k_mask` of rows [rows, width], the search ended as soon as each row has exactly k.

    The first guess takes magnitudes for those of a normal distribution, the second steps past the threshold
    by their density there, the others follow the Illinois rule (as `sparsity.threshold`).  Rounding decides
    only where to count next.
    """
    bits = _magnitude_bits(x)
    width = x.shape[-1]
    cut = NormalDist().inv_cdf(1 - k / width / 2)  # of |z|
    nonzero = _count(bits > 0)
    deviation = jnp.sum(_float(bits), axis=-1, keepdims=True) / width * math.sqrt(math.pi / 2)
    an_entry = deviation / (2 * NormalDist().pdf(cut) * width)  # between neighbours at the threshold
    beyond = 0.15 * math.sqrt(
        width
    )  # entries by which the second guess steps too far, to be on the other side

    def narrow(found: _Guesses) -> _Guesses:
        low, high = _float(found.low), _float(found.high)
        line = low + (high - low) * (found.over / (found.over + found.under))
        line = jnp.where(found.high == MOST, 2 * low, line)
        step = _float(found.last) + (found.excess + jnp.sign(found.excess) * beyond) * an_entry
        guess = jnp.where(found.passes == 0, cut * deviation, jnp.where(found.passes == 1, step, line))
        at = lax.bitcast_convert_type(guess, jnp.int32)
        usable = (found.passes < GUESSES) & (at > found.low) & (at < found.high) & (at <= INFINITY)
        at = jnp.where(usable, at, found.low + ((found.high - found.low) >> 1))
        excess = _folded_count(bits >= at) - k
        open_, enough = found.high - found.low > 1, excess >= 0
        stale = jnp.where(enough == (found.excess >= 0), 0.5, 1.0)
        return _Guesses(
            passes=found.passes + 1,
            low=jnp.where(open_ & enough, at, found.low),
            high=jnp.where(open_ & (excess <= 0), jnp.where(enough, at + 1, at), found.high),
            over=jnp.where(enough, excess, found.over * stale),
            under=jnp.where(enough, found.under * stale, -excess),
            last=at,
            excess=excess,
        )

    # Fewer nonzeros than k: all are kept, zeros too.  Exactly k: the threshold is the least positive number.
    low = jnp.where(nonzero >= k, 1, 0)
    start = _Guesses(
        passes=0,
        low=low,
        high=jnp.where(nonzero > k, MOST, low + 1),
        over=nonzero - k,
        under=jnp.full_like(nonzero, k),
        last=low,
        excess=nonzero - k,
    )
    with scopes.about_turns(GUESSES):
        threshold = lax.while_loop(lambda found: jnp.any(found.high - found.low > 1), narrow, start).low
    mask = bits >= threshold
    tied = jnp.any((_count(mask) > k) & (threshold > 0))
    with scopes.rarely(True):
        return lax.cond(tied, lambda: _first_of_tied(bits, threshold, k), lambda: mask)


def _float(bits: jax.Array) -> jax.Array:
    return lax.bitcast_convert_type(bits, jnp.float32)


def _folded_count(mask: jax.Array) -> jax.Array:
    """`_count`, the row folded in halves first: as XLA compiles sums on a CPU, twice as fast."""
    values, folds = mask.astype(jnp.float32), 0
    while values.shape[-1] % 2 == 0 and values.shape[-1] > 16 and folds < 6:
        half = values.shape[-1] // 2
        values, folds = values[..., :half] + values[..., half:], folds + 1
    return jnp.sum(values, axis=-1, keepdims=True)


def _count(mask: jax.Array) -> jax.Array:
    # A float32 sum of 0s and 1s is exact at these widths and vectorises better than an integer one.
    return jnp.sum(mask.astype(jnp.float32), axis=-1, keepdims=True)


def _break_ties(bits: jax.Array, k: int, low_bit: int) -> jax.Array:
    """Keeps what is above the threshold and, of what equals it, the first entries up to k in all."""
    threshold, _ = _threshold(bits, k, low_bit)  # of this branch's own copy of `bits`
    return _first_of_tied(bits, threshold, k)


def _first_of_tied(bits: jax.Array, threshold: jax.Array, k: int) -> jax.Array:
    above = bits > threshold
    equal = bits == threshold
    rank = jnp.cumsum(equal, axis=-1, dtype=jnp.int32)
    return above | (equal & ((rank <= k - _count(above)) | (threshold == 0)))

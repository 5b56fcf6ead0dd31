"""AbsTopK as one kernel (Pallas): a block of rows is read once, and all counting passes stay on the chip.

The compiler's own program of `abs_topk` reads the whole array from memory in each of its passes.  This one
reads it once and writes the result once, with a mask of one byte an entry where a gradient is wanted.  It
keeps the same entries.

A TPU's kernel takes many rows at a time and any width; a GPU's takes one row in registers, whose width has
to be a power of two.  On a CPU the TPU's kernel is interpreted, which is slow and for tests.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from circuits_jax.model.target import target

WIDEST = 2**14  # wider rows leave a TPU's block too few
BLOCK = 2**18  # entries of a TPU's block: 1 MB of float32, of which a dozen copies fit into its 16 MB
NARROW = 1024  # a narrower row counts as this wide: what is kept of a row takes a whole vector, too
TILE = 32  # rows of a tile of the mask, which is int8
WARPS_OF = 1024  # entries of a row that one of a GPU's groups of 32 threads takes

Call = Callable[[jax.Array], tuple[jax.Array, ...]]
Spread = Callable[[Call, jax.Array], tuple[jax.Array, ...]]
"""(what is done with rows that lie on one device, an array) -> that, of an array that may lie on several."""


def _here(call: Call, x: jax.Array) -> tuple[jax.Array, ...]:
    return call(x)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def kernel_top_k(x: jax.Array, k: int, spread: Spread = _here) -> jax.Array:
    """`abs_top_k` by the kernel.

    Only the kernel itself is done device by device.  What its gradient is multiplied with is not, or else the
    transpose would add up what devices hold in common.

    Args:
      x: [..., width], float32 or bfloat16, width <= WIDEST.
      k: How many are kept, 0 < k < width.
      spread: How the devices of a mesh are each given their rows; by default x lies on one.

    Returns:
      An array like `x`.
    """
    (kept,) = spread(_by_rows(k, masked=False, platform=target().platform), x)
    return kept


@kernel_top_k.defjvp
def _tangent(
    k: int, spread: Spread, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    kept, mask = spread(_by_rows(k, masked=True, platform=target().platform), *primals)
    return kept, jnp.where(mask != 0, tangents[0], 0)


@functools.cache
def _by_rows(k: int, masked: bool, platform: str) -> Call:
    """x [..., width] -> (kept like x,) or, if `masked`, (kept, int8 mask); an axis of vmap is more rows."""

    @jax.custom_batching.custom_vmap
    def by_rows(x: jax.Array) -> tuple[jax.Array, ...]:
        rows = x.reshape(-1, x.shape[-1])
        found = _on_gpu(rows, k, masked) if platform == "gpu" else _on_tpu(rows, k, masked, platform == "cpu")
        return tuple(each.reshape(x.shape) for each in found)

    @by_rows.def_vmap
    def more_rows(axis_size: int, in_batched: Any, x: jax.Array) -> Any:
        del axis_size, in_batched  # the one argument is batched, or there were no rule to apply
        return by_rows(x), (True,) * (1 + masked)

    return by_rows


def _on_tpu(x: jax.Array, k: int, masked: bool, interpret: bool) -> tuple[jax.Array, ...]:
    count, width = x.shape
    rows = min(count, max(TILE, BLOCK // max(width, NARROW) // TILE * TILE))
    return _call(x, k, masked, rows, interpret=interpret)


def _on_gpu(x: jax.Array, k: int, masked: bool) -> tuple[jax.Array, ...]:
    from jax.experimental.pallas import triton  # fails to import where jaxlib is built without it

    width = x.shape[-1]
    whole = 1 << (width - 1).bit_length()
    # Zeros are never among the k, or else all zeros are kept: those added here change nothing.
    padded = jnp.pad(x, ((0, 0), (0, whole - width)))
    warps = max(1, min(16, whole // WARPS_OF))
    found = _call(padded, k, masked, 1, compiler_params=triton.CompilerParams(num_warps=warps))
    return tuple(each[:, :width] for each in found)


def _call(x: jax.Array, k: int, masked: bool, rows: int, **options: Any) -> tuple[jax.Array, ...]:
    """The kernel on x [count, width], so many rows at a time; those beyond the last are never written."""
    types = [x.dtype, jnp.dtype(jnp.int8)] if masked else [x.dtype]
    block = pl.BlockSpec((rows, x.shape[-1]), lambda i: (i, 0))
    moved = x.size * (x.dtype.itemsize + sum(each.itemsize for each in types))
    return tuple(
        pl.pallas_call(
            functools.partial(_kernel, k=k),
            grid=(pl.cdiv(x.shape[0], rows),),
            in_specs=[block],
            out_specs=[block] * len(types),
            out_shape=[jax.ShapeDtypeStruct(x.shape, each) for each in types],
            # No products of matrices; what counting costs besides is hidden from the compiler's schedule.
            cost_estimate=pl.CostEstimate(flops=0, transcendentals=0, bytes_accessed=moved),
            name="abs_top_k",
            **options,
        )(x)
    )


def _kernel(x_ref: Any, kept_ref: Any, mask_ref: Any = None, *, k: int) -> None:
    """AbsTopK of a block [rows, width]."""
    x = x_ref[...]
    wide = x.astype(jnp.float32)  # vectors of bfloat16 cannot be compared or chosen from on every chip
    bits = lax.bitcast_convert_type(wide, jnp.int32) & 0x7FFFFFFF
    passes = 15 if x.dtype == jnp.bfloat16 else 31

    def write(mask: jax.Array) -> None:
        kept_ref[...] = jnp.where(mask, wide, 0.0).astype(x.dtype)
        if mask_ref is not None:
            mask_ref[...] = jnp.where(mask, 1, 0).astype(jnp.int8)

    threshold = _largest(passes, 30, x.shape[0], lambda candidate: _count(bits >= candidate) >= k)
    mask = bits >= threshold
    write(mask)
    tied = jnp.max(jnp.where(threshold > 0, _count(mask), 0.0)) > k

    @pl.when(tied)
    def _first_of_tied() -> None:
        # Of those that equal the threshold the first ones, up to an index, until there are k in all.
        above, equal = bits > threshold, bits == threshold
        room = k - _count(above)
        index = lax.broadcasted_iota(jnp.int32, x.shape, 1)
        top = x.shape[1].bit_length() - 1  # `end` may be the width
        end = _largest(top + 1, top, x.shape[0], lambda end: _count(equal & (index < end)) <= room)
        write(above | (equal & ((index < end) | (threshold == 0))))


def _largest(passes: int, top: int, rows: int, holds: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """The largest number for which `holds`, int32 [rows, 1], found bit by bit from bit `top` on.

    Args:
      passes: Bits that are tried; those below stay 0.
      top: The highest bit.
      rows: How many numbers.
      holds: int32 [rows, 1] -> bool [rows, 1]; of 0, and of any number below one for which it holds.
    """

    def refine(i: jax.Array, found: jax.Array) -> jax.Array:
        candidate = found | jnp.left_shift(1, top - i)
        return jnp.where(holds(candidate), candidate, found)

    return lax.fori_loop(0, passes, refine, jnp.zeros((rows, 1), jnp.int32))


def _count(mask: jax.Array) -> jax.Array:
    """True entries of each row, [rows, 1]; float32 is exact at these widths."""
    return jnp.sum(jnp.where(mask, 1.0, 0.0), axis=-1, keepdims=True)

"""Who attends to whom.  Letters in shapes: B batch, H heads, T tokens."""

import jax
import jax.numpy as jnp

from circuits_jax.config import ModelConfig
from circuits_jax.model import scopes
from circuits_jax.model.blocks import one_cpu
from circuits_jax.model.placement import HEADS, Axes, alone, by_device

LONG, PARTS = 64, 4  # queries from which on these are taken in blocks; parts of a causal block's queries
# Sequences of one head in a block: on a CPU so many, else as many as have their scores on the chip: 8 MB.
TOGETHER, ENTRIES = 8, 2**21
MOST_BYTES = 2**30  # of the attention weights of one layer, where rows are taken in parts


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    sink: jax.Array | None = None,
    start: jax.Array | int = 0,
    causal: bool = True,
) -> jax.Array:
    """What each query takes from the values, [B, H, T query, d_head].

    Long sequences are taken a few heads at a time, causal ones in parts of their queries, each without the
    keys behind it: no array has the scores of all heads.  Sums are then rounded differently.  On a mesh each
    device does so with its own sequences and heads.

    Args:
      q, k, sink, start, causal: As `attention_weights` has them.
      v: [B, H, T key, d_head].
    """
    with scopes.part(scopes.ATTENTION):
        found = _attend_in_blocks(q, k, v, sink, start, causal) if q.shape[2] >= LONG else None
        return _attend_at_once(q, k, v, sink, start, causal) if found is None else found


def _attend_at_once(
    q: jax.Array, k: jax.Array, v: jax.Array, sink: jax.Array | None, start: jax.Array | int, causal: bool
) -> jax.Array:
    weights, _ = attention_weights(q, k, sink, start, causal)
    return jnp.einsum("bhts,bhsd->bhtd", weights.astype(v.dtype), v)


def _attend_in_blocks(
    q: jax.Array, k: jax.Array, v: jax.Array, sink: jax.Array | None, start: jax.Array | int, causal: bool
) -> jax.Array | None:
    """The same by blocks of heads; None where devices share them in a way that is not known."""
    if not isinstance(start, int) and not alone():
        return None

    def own(q: jax.Array, k: jax.Array, v: jax.Array, *sink: jax.Array) -> jax.Array:
        return _attend_by_heads(q, k, v, sink[0] if sink else None, start, causal)

    sinks = () if sink is None else (jnp.broadcast_to(sink, q.shape[1]),)
    axes: tuple[Axes, ...] = (HEADS, HEADS, HEADS, {0: HEADS[1]})
    return by_device(own, (q, k, v, *sinks), axes[: 3 + len(sinks)], HEADS)


def _attend_by_heads(
    q: jax.Array, k: jax.Array, v: jax.Array, sink: jax.Array | None, start: jax.Array | int, causal: bool
) -> jax.Array:
    """The same, some heads at a time: weights stay in the cache, and the gradient computes them anew."""
    batch, heads, length, _ = q.shape
    from_the_start = causal and isinstance(start, int) and start == 0 and q.shape == k.shape
    ends = [length * part // PARTS for part in range(1, PARTS + 1)] if from_the_start else [length]
    most = TOGETHER if one_cpu() else max(1, ENTRIES * len(ends) // (length * k.shape[2]))
    together = max(n for n in range(1, most + 1) if batch * heads % n == 0)

    @jax.checkpoint
    def of_block(block: tuple[jax.Array, ...]) -> jax.Array:
        q, k, v, *sink = (x[None] for x in block)
        own = sink[0][0] if sink else None
        if not from_the_start:
            return _attend_at_once(q, k, v, own, start, causal)[0]
        parts, first = [], 0
        for end in ends:
            here = q[:, :, first:end], k[:, :, :end], v[:, :, :end]
            parts.append(_attend_at_once(*here, own, first, causal))
            first = end
        return jnp.concatenate(parts, axis=2)[0]

    def blocks(x: jax.Array) -> jax.Array:
        return x.reshape(-1, together, *x.shape[2:])

    sinks = () if sink is None else (blocks(jnp.broadcast_to(sink, (batch, heads))),)
    return jax.lax.map(of_block, (blocks(q), blocks(k), blocks(v), *sinks)).reshape(q.shape)


def attention_weights(
    q: jax.Array,
    k: jax.Array,
    sink: jax.Array | None = None,
    start: jax.Array | int = 0,
    causal: bool = True,
) -> tuple[jax.Array, jax.Array | None]:
    """Softmax attention, the sink sharing the denominator with value zero.

    Args:
      q: [B, H, T query, d_head].
      k: [B, H, T key, d_head].
      sink: [H] (or [1], shared) logits, unscaled, or None.
      start: Place of the first query among the keys.
      causal: Whether a query sees the keys up to its own place only.

    Returns:
      (weights float32 [B, H, T query, T key], the sink's weight [B, H, T] or None).
    """
    scores = jnp.einsum("bhtd,bhsd->bhts", q, k, preferred_element_type=jnp.float32)
    scores = scores * q.shape[-1] ** -0.5
    if causal:
        seen = jnp.arange(scores.shape[-1]) <= start + jnp.arange(scores.shape[-2])[:, None]
        scores = jnp.where(seen, scores, jnp.finfo(jnp.float32).min)
    if sink is None:
        return jax.nn.softmax(scores, axis=-1), None
    sink = jnp.asarray(sink, jnp.float32)[None, :, None, None]
    top = jax.lax.stop_gradient(jnp.maximum(scores.max(-1, keepdims=True), sink))
    weights = jnp.exp(scores - top)
    sink_weight = jnp.exp(sink - top)
    total = weights.sum(-1, keepdims=True) + sink_weight
    return weights / total, (sink_weight / total)[..., 0]


def rows_at_once(config: ModelConfig, rows: int, length: int) -> int:
    """The most of `rows` sequences, a divisor, whose attention weights of a layer take at most MOST_BYTES."""
    fitting = MOST_BYTES // (4 * config.heads * length**2)
    return max(part for part in range(1, rows + 1) if rows % part == 0 and (part <= fitting or part == 1))


def split_heads(x: jax.Array, heads: int) -> jax.Array:
    """[B, T, H * d_head] -> [B, H, T, d_head], the layout in which batched products run fastest."""
    return x.reshape(*x.shape[:-1], heads, -1).swapaxes(-2, -3)

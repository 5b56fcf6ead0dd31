"""Who attends to whom.  Letters in shapes: B batch, H heads, T tokens."""

import jax
import jax.numpy as jnp

from circuits_jax.config import ModelConfig
from circuits_jax.model import scopes
from circuits_jax.model.blocks import one_cpu

# On a CPU: from this length on, so many sequences of one head at once, their queries in so many parts.
LONG, TOGETHER, PARTS = 64, 8, 4
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

    On one CPU long sequences are taken a few heads at a time, causal ones in parts of their queries, each
    without the keys behind it.  Sums are then rounded differently.

    Args:
      q, k, sink, start, causal: As `attention_weights` has them.
      v: [B, H, T key, d_head].
    """
    from_the_start = isinstance(start, int) and start == 0 and q.shape == k.shape
    if from_the_start and k.shape[2] >= LONG and one_cpu():
        with scopes.part(scopes.ATTENTION):
            return _attend_in_blocks(q, k, v, sink, causal)
    with scopes.part(scopes.ATTENTION):
        return _attend_at_once(q, k, v, sink, start, causal)


def _attend_at_once(
    q: jax.Array, k: jax.Array, v: jax.Array, sink: jax.Array | None, start: jax.Array | int, causal: bool
) -> jax.Array:
    weights, _ = attention_weights(q, k, sink, start, causal)
    return jnp.einsum("bhts,bhsd->bhtd", weights.astype(v.dtype), v)


def _attend_in_blocks(
    q: jax.Array, k: jax.Array, v: jax.Array, sink: jax.Array | None, causal: bool
) -> jax.Array:
    """The same, TOGETHER heads at a time: weights stay in the cache, and the gradient computes them anew."""
    batch, heads, length, _ = q.shape
    together = max(n for n in range(1, TOGETHER + 1) if batch * heads % n == 0)
    ends = [length * part // PARTS for part in range(1, PARTS + 1)] if causal else [length]

    @jax.checkpoint
    def of_block(block: tuple[jax.Array, ...]) -> jax.Array:
        q, k, v, *sink = (x[None] for x in block)
        parts, start = [], 0
        for end in ends:
            seen = end if causal else length
            own = sink[0][0] if sink else None
            here = q[:, :, start:end], k[:, :, :seen], v[:, :, :seen]
            parts.append(_attend_at_once(*here, own, start, causal))
            start = end
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

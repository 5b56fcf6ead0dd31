"""Who attends to whom.  Letters in shapes: B batch, H heads, T tokens."""

import jax
import jax.numpy as jnp

from circuits_jax.config import ModelConfig

MOST_BYTES = 2**30  # of the attention weights of one layer, where rows are taken in parts


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

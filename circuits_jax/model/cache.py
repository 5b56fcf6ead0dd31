"""The key-value cache: what attention has seen so far, an argument of the one forward pass.

    cache = empty_cache(config, batch=1)
    logits, _, cache = model.apply(params, prompt, cache=cache)
    logits, _, cache = model.apply(params, next_tokens, cache=cache)

Letters in shape comments: B batch, H heads, S the cache's size in tokens, T the tokens of one call.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from circuits_jax.config import ModelConfig
from circuits_jax.config.checks import check_positive
from circuits_jax.storage.errors import ConfigError


class Past(NamedTuple):
    """What one layer has seen.

    Attributes:
      k, v: Keys and values after AbsTopK and tap, [B, H, S, d_head] of the model's compute type.
      length: int32 [], how many of the S tokens count; what lies behind them is never read.
    """

    k: jax.Array
    v: jax.Array
    length: jax.Array

    def extend(self, k: jax.Array, v: jax.Array) -> "Past":
        """The past with the keys and values [B, H, T, d_head] of T more tokens."""
        start = (0, 0, self.length, 0)
        return Past(
            k=jax.lax.dynamic_update_slice(self.k, k, start),
            v=jax.lax.dynamic_update_slice(self.v, v, start),
            length=self.length + k.shape[2],
        )


class Cache(NamedTuple):
    """The past of every layer; its shapes never change, so that one compilation serves all lengths."""

    layers: tuple[Past, ...]

    @property
    def length(self) -> jax.Array:
        """Tokens seen, int32 []."""
        return self.layers[0].length

    @property
    def size(self) -> int:
        """S: tokens there is room for."""
        return self.layers[0].k.shape[2]

    def cut(self, length: jax.Array | int) -> "Cache":
        """The cache as if only the first `length` tokens had been seen: what follows a padded prompt."""
        return Cache(tuple(past._replace(length=jnp.asarray(length, jnp.int32)) for past in self.layers))


def empty_cache(config: ModelConfig, batch: int, size: int | None = None) -> Cache:
    """A cache with room for `size` tokens (n_ctx of them by default) that holds none yet.

    Raises:
      ConfigError: if `size` is not from 1 to n_ctx.
    """
    size = config.n_ctx if size is None else size
    check_positive("the size of the cache", size)
    if size > config.n_ctx:
        raise ConfigError(f"the size of the cache is {size}, more than the context of {config.n_ctx} tokens")
    shape = (batch, config.heads, size, config.d_head)

    def past() -> Past:
        # Arrays of its own for each layer, so that a caller may donate them.
        return Past(jnp.zeros(shape, config.dtype), jnp.zeros(shape, config.dtype), jnp.zeros((), jnp.int32))

    return Cache(tuple(past() for _ in range(config.n_layer)))

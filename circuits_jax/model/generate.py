"""Text token by token: one compiled call for the prompt, one for each token after it.

for token in generate(model, prompt, count=50, sampling=Sampling(temperature=0.8)):
    ...
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.config import ModelConfig
from circuits_jax.config.checks import check_fraction, check_not_negative, check_positive, check_seed
from circuits_jax.model.cache import Cache, empty_cache
from circuits_jax.model.model import Model
from circuits_jax.model.target import DeviceKind, target
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.surroundings import settled_steps


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the next token is drawn from the logits; the limits act in the order in which they stand here.

    Attributes:
      temperature: The logits are divided by it; 0 takes the largest (greedy).
      top_k: Only this many of the most probable tokens; None keeps all.
      top_p: Of those, only the most probable that together hold this share of their probability.
      seed: Same seed, same text.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_not_negative("temperature", self.temperature)
        check_fraction("top_p", self.top_p)
        check_seed("seed", self.seed)
        if self.top_k is not None:
            check_positive("top_k", self.top_k)


def sample(logits: jax.Array, key: jax.Array, sampling: Sampling) -> jax.Array:
    """One token of each row of `logits` [B, V]: int32 [B].  Among equal logits the lower id comes first."""
    if sampling.temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    order = jnp.argsort(-logits, axis=-1, stable=True)[:, : sampling.top_k]
    logits = jnp.take_along_axis(logits, order, axis=-1) / sampling.temperature
    share = jax.nn.softmax(logits, axis=-1)
    before = jnp.cumsum(share, axis=-1) - share
    # The first is always kept: nothing is before it.
    logits = jnp.where(before < sampling.top_p, logits, -jnp.inf)
    drawn = jax.random.categorical(key, logits, axis=-1)
    return jnp.take_along_axis(order, drawn[:, None], axis=-1)[:, 0].astype(jnp.int32)


def generate(
    model: Model,
    prompt: Sequence[int],
    count: int,
    sampling: Sampling = Sampling(),  # noqa: B008 - frozen
    vocab_size: int | None = None,
) -> Iterator[int]:
    """Draws `count` tokens after `prompt`, one by one.

    When the context is full the newer half of it is read again, as a prompt of its own, and generation goes
    on from there: the model then knows nothing of what came before that half.

    Args:
      model: The model.
      prompt: 1 to n_ctx token ids.
      count: How many tokens to draw.
      sampling: How they are drawn.
      vocab_size: Only ids below this one are drawn; a tokenizer may have fewer than the model.

    Raises:
      ConfigError: if the prompt is empty, too long, or holds an id outside the vocabulary.
    """
    check_prompt(prompt, model.config)
    return settled_steps(_tokens(model, list(prompt), count, sampling, vocab_size))


def check_prompt(prompt: Sequence[int], config: ModelConfig) -> None:
    """Raises ConfigError unless `prompt` holds 1 to n_ctx token ids of the model's vocabulary."""
    if not len(prompt):
        raise ConfigError("the prompt is empty; give at least one token")
    if len(prompt) > config.n_ctx:
        raise ConfigError(
            f"the prompt has {len(prompt)} tokens, more than the context of {config.n_ctx}; shorten it"
        )
    for token in prompt:
        if not 0 <= token < config.vocab_size:
            raise ConfigError(
                f"the prompt holds token {token}; the model's vocabulary is 0 to {config.vocab_size - 1}"
            )


def _tokens(
    model: Model,
    seen: list[int],
    count: int,
    sampling: Sampling,
    vocab_size: int | None,
) -> Iterator[int]:
    n_ctx, key = model.config.n_ctx, jax.random.key(sampling.seed)
    cache, length = None, 0
    step = functools.partial(drawing_step(model.network, sampling, vocab_size), model.device_params)
    for number in range(count):
        draw = jax.random.fold_in(key, number)
        if cache is not None and length < n_ctx:
            new = np.array([seen[-1:]], np.int32)
            token, cache = step(cache, new, 0, draw)
            length += 1
        else:
            if cache is not None:
                seen = seen[-(n_ctx // 2 or 1) :]
            padded = np.zeros((1, n_ctx), np.int32)
            padded[0, : len(seen)] = seen
            length = len(seen)
            blank = empty_cache(model.config, batch=1)
            token, cache = step(blank, padded, length - 1, draw)
        seen = [*seen, int(token)]
        yield seen[-1]


@functools.lru_cache(maxsize=8)
def _drawing_step(network: Transformer, sampling: Sampling, vocab_size: int | None, kind: DeviceKind) -> Any:
    """`drawing_step` for such devices."""
    del kind

    def step(
        params: Params, cache: Cache, tokens: jax.Array, last: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, Cache]:
        length = cache.length + last + 1
        logits, _, cache = network.apply(params, tokens, at=jnp.reshape(last, (1,)), cache=cache)
        return sample(logits[:, :vocab_size], key, sampling)[0], cache.cut(length)

    return jax.jit(step, donate_argnums=1)


def drawing_step(network: Transformer, sampling: Sampling, vocab_size: int | None = None) -> Any:
    """The compiled (params, cache, tokens [1, T], last, key) -> (the next token, the cache with `tokens`).

    Tokens behind `last` are padding; the cache that is given is gone.

    Args:
      network: The model's.
      sampling: How the token is drawn.
      vocab_size: As `generate` has it.
    """
    return _drawing_step(network, sampling, vocab_size, target())

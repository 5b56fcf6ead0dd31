"""Contrast pairs as arrays, and a network's answers on them (docs/method.md, "Tasks").

Letters in shapes: N pairs, T tokens.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.model.taps import Tap
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.tasks.metrics import logit_difference
from circuits_jax.tasks.task import Pairs

# Prompts are cut to a multiple of this many tokens, so that nearly all tasks share compiled programs.  Those
# of one length take a minute to compile on two cores, longer than the steps that short prompts would save.
LENGTH_STEP = 32


class PairBatch(NamedTuple):
    """Contrast pairs as compiled programs take them, arrays of numpy's or JAX's.

    Attributes:
      tokens: int [N, 2, T], prompts A and B.
      last: int [N], position of their last token.
      answers: int [N, 2], the right token of A and of B.
    """

    tokens: Any
    last: Any
    answers: Any

    @property
    def size(self) -> int:
        """N."""
        return len(self.last)

    def within(self) -> np.ndarray:
        """Which positions belong to the prompts, bool [N, T]."""
        return np.arange(self.tokens.shape[-1]) <= np.asarray(self.last)[:, None]

    def first(self, count: int) -> "PairBatch":
        """The first `count` pairs."""
        return PairBatch(*(x[:count] for x in self))


def pair_batch(pairs: Pairs, n_ctx: int) -> PairBatch:
    """`pairs`, the prompts cut after the longest one (rounded up)."""
    return pair_batches([pairs], n_ctx)[0]


def pair_batches(splits: Sequence[Pairs], n_ctx: int) -> list[PairBatch]:
    """Each split, its prompts of one rounded length that fits all."""
    longest = max(int(pairs.last.max()) + 1 for pairs in splits)
    length = min(-(-longest // LENGTH_STEP) * LENGTH_STEP, n_ctx)
    return [PairBatch(_of_length(pairs.tokens, length), pairs.last, pairs.answers) for pairs in splits]


def pair_difference(network: Transformer, params: Params, pairs: Any, tap: Tap | None = None) -> jax.Array:
    """l[answer A] - l[answer B] on both prompts of each pair, float32 [N, 2].

    Args:
      network, params: What runs.
      pairs: N pairs, a PairBatch or what has its fields.
      tap: What is done to the activations, such as an ablation.
    """
    tokens = pairs.tokens.reshape(-1, pairs.tokens.shape[-1])
    logits, _ = network.apply(params, tokens, tap=tap, at=jnp.repeat(pairs.last, 2))
    return logit_difference(logits, pairs.answers)


def _of_length(tokens: np.ndarray, length: int) -> np.ndarray:
    """`tokens` [..., T] cut, or filled up with what follows no prompt's end, to `length`."""
    missing = max(0, length - tokens.shape[-1])
    return np.pad(tokens, [(0, 0)] * (tokens.ndim - 1) + [(0, missing)], mode="edge")[..., :length]

"""Loss and accuracy of a two-way task (docs/method.md, "Tasks").

Shapes: B pairs, 2 prompts each (A, B), V vocabulary.  `logits` are those at the last prompt position,
either [B, 2, V] or [2B, V] with the two prompts of a pair next to each other (`tokens.reshape(2B, T)`).
`answers` is int32 [B, 2]: right token of A and of B, each the other's wrong one.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

CHANCE = math.log(2)  # the loss of who cannot tell the two answers apart


def logit_difference(logits: jax.Array, answers: jax.Array) -> jax.Array:
    """d = l[answer A] - l[answer B] of both prompts, float [B, 2]: right is d > 0 on A, d < 0 on B.

    Raises:
      ValueError: if the shapes do not belong together.
    """
    pairs = answers.shape[0]
    if logits.ndim not in (2, 3) or logits.size != pairs * 2 * logits.shape[-1]:
        raise ValueError(
            f"logits {logits.shape} do not belong to answers {answers.shape}; give [B, 2, V] or [2B, V]"
        )
    logits = logits.reshape(pairs, 2, -1)
    chosen = jnp.take_along_axis(logits, answers[:, None, :], axis=-1)  # [B, prompt, answer]
    return chosen[..., 0] - chosen[..., 1]


def right_margin(difference: jax.Array | np.ndarray) -> jax.Array:
    """Right minus wrong logit, [..., 2], from `logit_difference`'s [..., 2]."""
    return jnp.asarray(difference) * jnp.array([1.0, -1.0], difference.dtype)


def loss_of_difference(difference: jax.Array) -> jax.Array:
    """Binary cross-entropy of right against wrong, in nats, averaged over both prompts of all pairs."""
    return jnp.mean(jax.nn.softplus(-right_margin(difference)))


def task_loss(logits: jax.Array, answers: jax.Array) -> jax.Array:
    """Task loss, float []: chance is ln 2."""
    return loss_of_difference(logit_difference(logits, answers))


def accuracy(logits: jax.Array, answers: jax.Array) -> jax.Array:
    """Share of prompts whose right token has the larger logit, float []; a tie is wrong."""
    return jnp.mean(right_margin(logit_difference(logits, answers)) > 0)

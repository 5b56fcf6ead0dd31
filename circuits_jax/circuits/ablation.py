"""Running a model with nodes removed, on contrast pairs (METHOD sections 4 and 5)."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.checks import check_choice
from circuits_jax.config import ABLATIONS, ModelConfig
from circuits_jax.model import sites
from circuits_jax.model.taps import Tap
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.tasks.metrics import logit_difference
from circuits_jax.tasks.task import Pairs

Means = dict[str, jax.Array]
# Prompts are cut to a multiple of this many tokens, so that tasks of like length share a compilation.
LENGTH_STEP = 8


def mean_activations(model: Transformer, params: Params, batches: Iterable[np.ndarray]) -> Means:
    """Mean of every node over all positions of the corpus `batches`, each int [B, T]: {site: [width]}."""
    wanted = tuple(sites.node_sites(model.config))

    @jax.jit
    def means_of(params: Params, tokens: jax.Array) -> Means:
        _, records = model.apply(params, tokens, record=wanted)
        return {site: x.astype(jnp.float32).mean(axis=(0, 1)) for site, x in records.items()}

    means = [means_of(params, jnp.asarray(batch)) for batch in batches]
    return jax.tree.map(lambda *each: sum(each) / len(each), *means)


def reference_activations(model: Transformer, params: Params, tokens: np.ndarray, kind: str) -> Means:
    """What removed nodes are held at: their "mean" over the corpus batches `tokens` [n, B, T], or "zero"."""
    check_choice("prune.ablation", kind, ABLATIONS)
    if kind == "zero":
        return {site: jnp.zeros(width) for site, width in sites.node_sites(model.config).items()}
    return mean_activations(model, params, tokens)


def trim(pairs: Pairs, n_ctx: int) -> np.ndarray:
    """The prompts cut after the longest one, rounded up: int32 [N, 2, T']."""
    longest = int(pairs.last.max()) + 1
    return pairs.tokens[..., : min(-(-longest // LENGTH_STEP) * LENGTH_STEP, n_ctx)]


def pair_difference(
    model: Transformer,
    params: Params,
    tokens: jax.Array,
    last: jax.Array,
    answers: jax.Array,
    tap: Tap | None = None,
) -> jax.Array:
    """l[answer A] - l[answer B] on both prompts of each pair, float32 [N, 2].

    Args:
      tokens: int [N, 2, T], prompts A and B.
      last: int [N], position of their last token.
      answers: int [N, 2].
      tap: What is done to the activations, such as an ablation.
    """
    logits, _ = model.apply(params, tokens.reshape(-1, tokens.shape[-1]), tap=tap, at=jnp.repeat(last, 2))
    return logit_difference(logits, answers)


def full_masks(config: ModelConfig, value: float = 1.0) -> dict[str, np.ndarray]:
    """Masks that keep (1) or remove (0) every node."""
    return {site: np.full(width, value, np.float32) for site, width in sites.node_sites(config).items()}

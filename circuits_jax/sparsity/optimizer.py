"""The optimizer of a run: AdamW on gradients of a fixed size, then the projection.

See docs/method.md, "Optimizer".
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from circuits_jax.config import GRADIENT_MODES, RMS_ENTRIES, Config, ModelConfig, OptimizerConfig
from circuits_jax.config.checks import check_choice
from circuits_jax.model.parameters import EMBEDDING, MATRIX, frozen_shapes
from circuits_jax.sparsity.projection import keep_largest, map_rules
from circuits_jax.sparsity.schedules import l0_schedule, learning_rate_schedule

_SMALLEST_RMS = 1e-8


def gradient_rms(gradients: Any, still: int = 0) -> Array:
    """Root mean square over all entries of all tensors of a tree and `still` more zeros, float32 scalar."""
    entries = still + sum(leaf.size for leaf in jax.tree.leaves(gradients))
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), gradients)
    return optax.global_norm(wide) / entries**0.5


def normalize_rms(target: float = 1.0, mode: str = "rescale", still: int = 0) -> optax.GradientTransformation:
    """Brings the gradient's root mean square, over all entries of all tensors, to `target`.

    g * target / max(RMS, 1e-8).  A clip hardly ever acts, for raw gradients have an RMS of about 1e-3, and
    Adam's eps of 0.1 would then swamp them: the rescaling is what the method rests on.

    Args:
      target: The RMS to reach.
      mode: "rescale" (always) or "clip" (only when the RMS is larger than `target`).
      still: Entries that are not trained and counted all the same, with a gradient of 0.

    Raises:
      ConfigError: for any other mode.
    """
    check_choice("gradient mode", mode, GRADIENT_MODES)

    def rescale(gradients: Any, params: Any = None) -> Any:
        del params
        factor = target / jnp.maximum(gradient_rms(gradients, still), _SMALLEST_RMS)
        if mode == "clip":
            factor = jnp.minimum(factor, 1.0)
        return jax.tree.map(lambda g: (g * factor).astype(g.dtype), gradients)

    return optax.stateless(rescale)


def make_optimizer(config: Config) -> optax.GradientTransformation:
    """The whole chain of a run: RMS, Adam, decay of matrices, learning rate, projection.

    Decoupled weight decay acts on kernels, embeddings and the unembedding; not on the bigram table, norms,
    sinks and biases.
    """
    optimizer, sparsity, steps = config.optimizer, config.sparsity, config.train.steps
    return optax.chain(
        normalize_rms(
            optimizer.gradient_rms, optimizer.gradient_mode, still_entries(optimizer, config.model)
        ),
        optax.scale_by_adam(b1=optimizer.b1, b2=optimizer.b2, eps=optimizer.eps),
        optax.add_decayed_weights(optimizer.weight_decay, mask=_decayed),
        optax.scale_by_learning_rate(learning_rate_schedule(optimizer, sparsity, steps)),
        keep_largest(
            l0_schedule(sparsity, steps),
            floor=sparsity.floor,
            sparse_biases=sparsity.sparse_biases,
            sparse_embeddings=sparsity.sparse_embeddings,
        ),
    )


def still_entries(optimizer: OptimizerConfig, model: ModelConfig) -> int:
    """How many entries of a model that are not trained the gradient's root mean square counts.

    Raises:
      ConfigError: for another choice of `rms_entries` than those there are.
    """
    check_choice("optimizer.rms_entries", optimizer.rms_entries, RMS_ENTRIES)
    if optimizer.rms_entries == "trained":
        return 0
    return sum(leaf.size for leaf in jax.tree.leaves(frozen_shapes(model)))


def _decayed(params: Any) -> Any:
    """Tree of bools: which tensors weight decay acts on."""
    return map_rules(lambda rule, _: rule.kind in (MATRIX, EMBEDDING), params)

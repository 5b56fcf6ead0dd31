"""Pretraining a sparse, or dense, language model, as a program for the Trainer (docs/method.md, "Model")."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from circuits_jax.config import Config, ModelConfig
from circuits_jax.model.parameters import frozen_shapes, merged
from circuits_jax.model.sites import UNITS, parse
from circuits_jax.model.transformer import Transformer
from circuits_jax.sparsity.optimizer import make_optimizer
from circuits_jax.sparsity.report import sparsity_metrics
from circuits_jax.sparsity.schedules import learning_rate_schedule
from circuits_jax.training.mesh.partition import model_rules
from circuits_jax.training.program import Program, stack_mean
from circuits_jax.training.state import make_init
from circuits_jax.training.step import gradient_of, make_eval_step, make_train_step, model_loss


def pretraining(
    config: Config,
    inputs: Callable[[], dict[str, Any] | None] = lambda: None,
    frozen: Mapping[str, Any] | None = None,
) -> Program:
    """The program of a run.

    Args:
      config: The whole configuration.
      inputs: () -> what a fresh start replaces random parameters with, by their names at the top of the tree:
        {"bigram": float32 [V, V]}, or every parameter of an earlier run; None for nothing.
      frozen: Values of the parameters that are not trained (`model.parameters.frozen_shapes`); without them
        a program that has some can be laid out and not run.
    """
    optimizer = make_optimizer(config)
    model = Transformer(config.model, remat=config.mesh.remat)
    gradient = gradient_of(
        lambda params, windows, frozen: (model_loss(model, merged(params, frozen), windows), {}),
        config.mesh.accumulate,
        config.mesh.precision,
        by_rows=True,
    )
    step = make_train_step(
        gradient,
        optimizer,
        learning_rate_schedule(config.optimizer, config.sparsity, config.train.steps),
        config.train.log_every,
    )
    return Program(
        init=make_init(config, optimizer),
        step=step,
        evaluate=make_eval_step(model),
        summarize=summarize,
        measure=sparsity_metrics,
        rules=model_rules(config.model),
        inputs=inputs,
        frozen=frozen_shapes(config.model) if frozen is None else frozen,
        flops_per_token=flops_per_token(config.model),
    )


def summarize(results: Sequence[tuple[np.ndarray, dict[str, np.ndarray]]]) -> dict[str, float]:
    """Validation loss, and how many nodes were zero on every validation token (`make_eval_step`)."""
    losses, alive = zip(*results, strict=True)
    silent = {"never_active_neurons": 0, "never_active_channels": 0}
    for site in alive[0]:
        kind = "neurons" if parse(site)[1] == UNITS["neuron"] else "channels"
        ever = np.any([mask[site].any(axis=0) for mask in alive], axis=0)
        silent[f"never_active_{kind}"] += int(np.sum(~ever))
    return {"validation_loss": stack_mean(losses), **silent}


def flops_per_token(config: ModelConfig) -> float:
    """Floating-point operations of one training step for each token: 6 a weight of each matrix product,
    backward pass included, and 12 a channel and token of context in attention.

    These are all pairs of tokens, as model FLOPs are counted usually, though a half is masked and blocks skip
    most of that.  Neither AbsTopK nor the projection are counted, nor is what `mesh.remat` computes again.
    """
    attention = config.d_read * 3 * config.d_attn + config.d_attn * config.d_model
    mlp = (config.d_read + config.d_model) * config.neurons
    weights = config.n_layer * (attention + mlp) + config.d_model * config.vocab_size
    return 6.0 * weights + 12.0 * config.n_layer * config.d_attn * config.n_ctx

"""What the paper-sized configurations share: docs/method.md at the paper's settings."""

import dataclasses

from circuits_jax.config import (
    Config,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    SparsityConfig,
    TrainConfig,
)

# The paper's own number of tokens is not known to us.
TOKENS = 2_000_000_000
BATCH, CONTEXT = 64, 256
STEPS = -(-TOKENS // (BATCH * CONTEXT))


def paper(d_model: int, target: float) -> Config:
    """Eight layers of `d_model` on 256 tokens of context, `target` of the weights kept at the end."""
    return Config(
        model=ModelConfig(n_layer=8, d_model=d_model, n_ctx=CONTEXT, vocab_size=2048, dtype="bfloat16"),
        sparsity=SparsityConfig(target=target, floor=4),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        train=TrainConfig(
            steps=STEPS,
            batch_size=BATCH,
            log_every=100,
            eval_every=2000,
            eval_batches=32,
            checkpoint_every=2000,
        ),
        mesh=MeshConfig(scan_layers=True),
    )


def dense(d_model: int) -> Config:
    """The same decoder as an ordinary one: every weight and every activation kept."""
    config = paper(d_model, target=1.0)
    model = dataclasses.replace(config.model, activation_fraction=None)
    return dataclasses.replace(config, model=model)

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
TOKENS_A_STEP = BATCH * CONTEXT
STEPS = -(-TOKENS // TOKENS_A_STEP)
# Each device holds, projects and updates its part of the state, however many there are; with a copy each
# would project all weights (docs/tpu.md has what the TPU compiler says of both).
MESH = MeshConfig(data=1, fsdp=-1, scan_layers=True)


def recipe(model: ModelConfig, target: float) -> Config:
    """The training of `model`, `target` of its weights kept at the end."""
    return Config(
        model=dataclasses.replace(model, dtype="bfloat16"),
        sparsity=SparsityConfig(target=target, floor=4),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        train=TrainConfig(
            steps=STEPS,
            batch_size=TOKENS_A_STEP // model.n_ctx,
            log_every=100,
            eval_every=2000,
            eval_batches=32,
            checkpoint_every=2000,
        ),
        mesh=MESH,
    )


def paper(d_model: int, target: float) -> Config:
    """Eight layers of `d_model` on 256 tokens of context, `target` of the weights kept at the end."""
    return recipe(ModelConfig(n_layer=8, d_model=d_model, n_ctx=CONTEXT, vocab_size=2048), target)


def dense(d_model: int) -> Config:
    """The same decoder as an ordinary one: every weight and every activation kept."""
    config = paper(d_model, target=1.0)
    model = dataclasses.replace(config.model, activation_fraction=None)
    return dataclasses.replace(config, model=model)

"""Circuit size against loss on a laptop: dense and sparse models of a few sizes, two seeds each.

    python -m circuits_jax frontier --config=frontier_laptop --workdir=runs/frontier --plan
    python -m circuits_jax frontier --config=frontier_laptop --workdir=runs/frontier

The quickstart's corpus, depth and length, 7.7M tokens a model.  Dense models are ordinary ones: every weight
and every activation is kept.  Sparse ones have both sparsities of the paper; two more series have one of the
two each, with one seed, and the rate that was best for the first two.  All twenty tasks are asked, and one
counts where the model itself meets the target.
The plan's speed is that of two quiet cores with AVX2, or of one with AVX-512 (docs/performance.md), two of
which train two models at a time: two processes, each with --cpu_devices=1.

docs/frontier.md says what is computed, and how to vary one thing at a time.
"""

import dataclasses

from ml_collections import ConfigDict

from circuits_jax.config import (
    Config,
    DataConfig,
    FrontierConfig,
    ModelConfig,
    PruneConfig,
    TrainConfig,
)
from circuits_jax.configs.config_dict import to_config_dict

SERIES = (
    "dense: model.d_model=20,28,48 model.n_head=2,2,3 sparsity.target=1 model.activation_fraction=none",
    "sparse: model.d_model=96 sparsity.target=1/8,1/4",
    "activation sparsity alone: model.d_model=28,48 model.n_head=2,3 sparsity.target=1 train.seed=0 "
    "optimizer.learning_rate=2e-2",
    "weight sparsity alone: model.d_model=96 sparsity.target=1/8,1/4 model.activation_fraction=none "
    "train.seed=0 optimizer.learning_rate=2e-2",
)
STEPS = 7500
COMPARE = (
    "dense / sparse",
    "activation sparsity alone / sparse",
    "dense / activation sparsity alone",
    "dense / weight sparsity alone",
)


def laptop() -> Config:
    """What all models of the laptop's frontiers have in common."""
    return Config(
        # The table is no part of any circuit; one that is not trained leaves the time to what is.
        model=ModelConfig(bigram="counts"),
        data=DataConfig(generated_share=None, grammar=2),
        train=TrainConfig(
            steps=4000,
            batch_size=8,
            bigram_prior=300.0,
            log_every=50,
            eval_every=1000,
            eval_batches=64,
            checkpoint_every=500,
        ),
        prune=PruneConfig(
            tasks=("all",),
            steps=200,
            k_coef=5e-4,
            train_pairs=192,
            learnt=0.15,
            importance_nodes=0,
        ),
    )


def get_config() -> ConfigDict:
    """The configuration, for --config=FILE."""
    frontier = FrontierConfig(
        series=SERIES,
        compare=COMPARE,
        seeds=(0, 1),
        learning_rates=(1e-2, 2e-2, 4e-2),
        tasks_planned=8,
        slots=2,
    )
    config = laptop()
    train = dataclasses.replace(config.train, steps=STEPS)
    return to_config_dict(dataclasses.replace(config, train=train, frontier=frontier))

"""Circuit size against loss on a laptop: dense and sparse models of a few sizes, two seeds each.

    python -m circuits_jax frontier --config=frontier_laptop --workdir=runs/frontier --plan
    python -m circuits_jax frontier --config=frontier_laptop --workdir=runs/frontier

The quickstart's corpus, depth and length (4.1M tokens each), so that the widest models here are about as good
as its own.  Dense models are ordinary ones: every weight and every activation is kept.  Sparse ones have both
sparsities of the paper; two more series have one of the two each, at a size and a seed fewer.  All twenty tasks are
asked, and a task counts where the model itself meets the target.

docs/frontier.md says what is computed, and how to vary one thing at a time.
"""

import dataclasses

from ml_collections import ConfigDict

from circuits_jax.config import Config, DataConfig, FrontierConfig, PruneConfig, TrainConfig
from circuits_jax.configs.config_dict import to_config_dict

SERIES = (
    "dense: sparsity.target=1 model.activation_fraction=none model.d_model=16,32,64",
    "sparse: model.d_model=64,128,192 sparsity.target=1/8,1/16,1/16",
    "activation sparsity alone: sparsity.target=1 model.d_model=32,64 train.seed=0",
    "weight sparsity alone: model.activation_fraction=none model.d_model=64,128 sparsity.target=1/8,1/16 train.seed=0",
)
COMPARE = (
    "dense / sparse",
    "activation sparsity alone / sparse",
    "dense / activation sparsity alone",
    "dense / weight sparsity alone",
)


def base() -> Config:
    """What all models have in common."""
    return Config(
        data=DataConfig(generated_share=None),
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
            retries=3,
            importance_nodes=0,
        ),
    )


def get_config() -> ConfigDict:
    """The configuration, for --config=FILE."""
    frontier = FrontierConfig(
        series=SERIES, compare=COMPARE, seeds=(0, 1), learning_rates=(3e-3, 1e-2), tasks_planned=8
    )
    return to_config_dict(dataclasses.replace(base(), frontier=frontier))

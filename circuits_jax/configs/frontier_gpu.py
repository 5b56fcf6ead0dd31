"""Circuit size against loss on one GPU a model: four layers, 100M tokens, three seeds.

    python -m circuits_jax frontier --config=frontier_gpu --workdir=runs/frontier --plan
    launch/gpu_box.sh sweep --experiment=frontier --name=frontier --array=0-29 --gpus=8 --
        --config=frontier_gpu --points={} --workdir=runs/frontier

Nobody has run this.  The plan takes a GPU for one that reaches 5e13 operations a second at these widths, a
twentieth of what the data sheet of an H100 says; frontier.flops_per_second sets another.  So many tokens are
a dozen passes over the standard library with its tests: name a larger corpus if you have one
(--config.data.source).
"""

import dataclasses

from ml_collections import ConfigDict

from circuits_jax.config import (
    Config,
    DataConfig,
    FrontierConfig,
    ModelConfig,
    PruneConfig,
    SparsityConfig,
    TrainConfig,
)
from circuits_jax.configs.config_dict import to_config_dict
from circuits_jax.configs.frontier_laptop import COMPARE

SERIES = (
    "dense: model.d_model=64,128,256,512 sparsity.target=1 model.activation_fraction=none",
    "sparse: model.d_model=256,512,1024,2048 sparsity.target=1/8,1/32,1/128,1/512",
    "activation sparsity alone: model.d_model=128,256,512 sparsity.target=1 train.seed=0",
    "weight sparsity alone: model.d_model=256,512,1024 sparsity.target=1/8,1/32,1/128 "
    "model.activation_fraction=none train.seed=0",
)
PRUNE = PruneConfig(
    tasks=("all",), steps=600, k_coef=5e-4, trials=4, seeds=2, learnt=0.15, importance_nodes=0
)


def get_config() -> ConfigDict:
    """The configuration, for --config=FILE."""
    frontier = FrontierConfig(
        series=SERIES,
        compare=COMPARE,
        seeds=(0, 1, 2),
        learning_rates=(1e-3, 3e-3, 1e-2, 3e-2),
        tasks_planned=15,
        flops_per_second=5e13,
        bytes_per_second=1e12,
        compile_seconds=300.0,
    )
    config = Config(
        model=ModelConfig(n_layer=4, n_ctx=256, dtype="bfloat16"),
        data=DataConfig(exclude=("site-packages", "dist-packages"), generated_share=None),
        sparsity=SparsityConfig(floor=4),
        train=TrainConfig(
            steps=6104,
            batch_size=64,
            bigram_prior=300.0,
            log_every=50,
            eval_every=1000,
            eval_batches=32,
            checkpoint_every=500,
        ),
        prune=PRUNE,
    )
    return to_config_dict(dataclasses.replace(config, frontier=frontier))

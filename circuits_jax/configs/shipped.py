"""The model that comes with the library, `cj.load("shipped")`, trained anew in about an hour on two cores.

    python -m circuits_jax pretrain --config=shipped --workdir=runs/long
    python -m circuits_jax prune --workdir=runs/long --tasks=all
    python -m circuits_jax audit --workdir=runs/long --controls=full
    python -m circuits_jax ship --workdir=runs/long --out=circuits_jax/shipped

Two layers of d_model 256, 1 weight in 32 kept at the end, on the standard library with as many windows of
generated programs of grammar 2.  The bigram table is counted, so that it ships in a few hundred
kilobytes; docs/results.md has what was tried on the way, and `MODEL_CARD.md` in circuits_jax/shipped what
came out.
Sixteen snapshots show later how circuits form.
"""

from ml_collections import ConfigDict

from circuits_jax.config import (
    Config,
    DataConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    PruneConfig,
    SparsityConfig,
    TrainConfig,
)
from circuits_jax.configs.config_dict import to_config_dict


def get_config() -> ConfigDict:
    """The configuration, for --config=FILE."""
    config = Config(
        model=ModelConfig(d_model=256, bigram="counts"),
        data=DataConfig(generated_share=0.5, grammar=2),
        mesh=MeshConfig(precision="bfloat16"),
        optimizer=OptimizerConfig(learning_rate=1.4e-2),
        sparsity=SparsityConfig(anneal_end=0.6),
        train=TrainConfig(
            steps=16000,
            batch_size=16,
            bigram_prior=300.0,
            log_every=50,
            eval_every=1000,
            eval_batches=16,
            checkpoint_every=1000,
            snapshots=16,
        ),
        prune=PruneConfig(steps=200, k_coef=5e-4, train_pairs=192),
    )
    return to_config_dict(config)

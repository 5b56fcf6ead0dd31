"""The quickstart: a small weight-sparse model and its circuits in about ten minutes on two cores.

Two layers of d_model 128, 1 weight in 16 kept at the end, AbsTopK 1/4, a bigram table of counts, on the
standard library and, three quarters of the windows, small generated programs of grammar 2.
`python -m circuits_jax quickstart` is all it takes; docs/results.md says what was tried on the way to these
settings and what comes out.
"""

from ml_collections import ConfigDict

from circuits_jax.config import (
    Config,
    DataConfig,
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
        model=ModelConfig(bigram="counts"),
        data=DataConfig(generated_share=None, grammar=2),
        optimizer=OptimizerConfig(learning_rate=2e-2),
        sparsity=SparsityConfig(target=1 / 16),
        train=TrainConfig(
            steps=5000,
            batch_size=8,
            bigram_prior=300.0,
            log_every=20,
            eval_every=500,
            eval_batches=16,
            checkpoint_every=500,
        ),
        prune=PruneConfig(steps=200, k_coef=5e-4, train_pairs=192),
    )
    return to_config_dict(config)

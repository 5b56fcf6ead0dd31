"""A dense model to be bridged: every weight and every activation kept.

    python -m circuits_jax pretrain --config=bridge_dense --workdir=runs/dense

Two layers of d_model 128 on the standard library with its tests, about six minutes on two cores; at the
sparse models' rate of 1e-2 it learns few of the tasks.  docs/results.md, "Bridges", has what comes out.
`bridge_dense.py:8x1024` is one of 8 layers of d_model 1024 for a machine with an accelerator: 65M tokens,
which want more code than the standard library (--config.data.roots).  Nobody has trained that one here.
"""

from ml_collections import ConfigDict

from circuits_jax.config import Config, ModelConfig, OptimizerConfig, SparsityConfig, TrainConfig
from circuits_jax.configs.bridges import CORPUS, choose, large
from circuits_jax.configs.paper import dense


def get_config(variant: str = "") -> ConfigDict:
    """The configuration, or with "8x1024" the large one, for --config=FILE[:8x1024]."""
    small = Config(
        model=ModelConfig(activation_fraction=None),
        data=CORPUS,
        sparsity=SparsityConfig(target=1.0),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        train=TrainConfig(
            steps=4000, batch_size=8, seed=3, bigram_prior=300.0, eval_every=500, eval_batches=16
        ),
    )
    return choose(small, large(dense(1024)), variant)

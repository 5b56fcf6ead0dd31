"""A sparse model trained coupled to the dense one of bridge_dense.py, with its bridges, and steering by it.

    python -m circuits_jax pretrain --config=bridge_dense --workdir=runs/dense
    python -m circuits_jax bridges --config=bridges --workdir=runs/bridges
    python -m circuits_jax prune --config=bridges --workdir=runs/bridges/sparse
    python -m circuits_jax steer --workdir=runs/bridges

In that order: a dense model, the coupled run, circuits of its sparse model, and the dense model steered by
its nodes; runs/bridges/bridges.html is the report.  AbsTopK acts on the residual stream too, as in
the paper.  docs/results.md, "Bridges", has what comes out, and how long it takes on two cores.

`bridges.py:8x1024`, after `bridge_dense.py:8x1024`, is the same for a machine with an accelerator: 8 layers
of d_model 1024, a batch in four parts so that it fits 80 GB.  The shapes of the released csp_bridges1 and
csp_bridges2 are not known to us.  Nobody has trained that one here.
"""

import dataclasses

from ml_collections import ConfigDict

from circuits_jax.config import (
    TOPK_LOCATIONS,
    BridgeConfig,
    Config,
    DataConfig,
    ModelConfig,
    PruneConfig,
    SparsityConfig,
    SteerConfig,
    TrainConfig,
)
from circuits_jax.configs.config_dict import to_config_dict
from circuits_jax.configs.paper import paper
from circuits_jax.storage.errors import ConfigError

LARGE = "8x1024"
# The standard library with its tests, twice as much code as without.
CORPUS = DataConfig(exclude=("site-packages", "dist-packages"), generated_share=None, seed=3)


def get_config(variant: str = "") -> ConfigDict:
    """The configuration, or with "8x1024" the large one, for --config=FILE[:8x1024]."""
    bridge = BridgeConfig(dense="runs/dense")
    prune = PruneConfig(steps=200, k_coef=5e-4, train_pairs=192, tasks=SteerConfig().tasks)
    small = Config(
        model=ModelConfig(activation_locations=TOPK_LOCATIONS),
        data=CORPUS,
        sparsity=SparsityConfig(target=1 / 16),
        train=TrainConfig(
            steps=3600, batch_size=8, seed=3, bigram_prior=300.0, eval_every=500, eval_batches=16
        ),
        bridge=bridge,
        prune=prune,
    )
    wide = large(paper(d_model=1024, target=1 / 64))
    model = dataclasses.replace(wide.model, activation_locations=TOPK_LOCATIONS)
    mesh = dataclasses.replace(wide.mesh, accumulate=4)
    return choose(
        small, dataclasses.replace(wide, model=model, mesh=mesh, bridge=bridge, prune=prune), variant
    )


def large(config: Config) -> Config:
    """A configuration of the paper's size, its training cut to 65M tokens, with the small one's corpus."""
    train = dataclasses.replace(
        config.train, steps=4000, bigram_prior=300.0, log_every=20, eval_every=500, eval_batches=8,
        checkpoint_every=500,
    )  # fmt: skip
    return dataclasses.replace(config, train=train, data=CORPUS)


def choose(small: Config, big: Config, variant: str) -> ConfigDict:
    """The small configuration without a variant, and the big one with LARGE.

    Raises:
      ConfigError: for any other variant.
    """
    if variant not in ("", LARGE):
        raise ConfigError(f"unknown variant {variant!r} of the configuration; choose {LARGE} or none")
    return to_config_dict(big if variant else small)

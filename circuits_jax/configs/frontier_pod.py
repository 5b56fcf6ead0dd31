"""Circuit size against loss at the paper's size: eight layers, 2 billion tokens, a TPU host a model.

    python -m circuits_jax frontier --config=frontier_pod --workdir=gs://BUCKET/frontier --plan
    launch/gke_xpk.sh sweep --experiment=frontier --cluster=C --name=frontier --owner=GITHUB_OWNER
        --array=0-23 -- --config=frontier_pod --points={} --workdir=gs://BUCKET/frontier

Nobody has run this.  The plan takes a host for eight v5e chips that reach 3e14 operations a second together,
a fifth of what their data sheets say; frontier.flops_per_second sets another.  The pruning of a model runs in
one process, so that a model has one host.  Two billion tokens want a larger corpus than the standard library
(--config.data.source).
"""

import dataclasses

from ml_collections import ConfigDict

from circuits_jax.config import FrontierConfig, MeshConfig
from circuits_jax.configs.config_dict import to_config_dict
from circuits_jax.configs.frontier_gpu import PRUNE
from circuits_jax.configs.frontier_laptop import COMPARE
from circuits_jax.configs.paper import paper

SERIES = (
    "dense: model.d_model=256,512,1024 sparsity.target=1 model.activation_fraction=none",
    "sparse: model.d_model=512,1024,2048 sparsity.target=1/16,1/64,1/256",
    "activation sparsity alone: model.d_model=256,512,1024 sparsity.target=1 train.seed=0",
    "weight sparsity alone: model.d_model=512,1024,2048 sparsity.target=1/16,1/64,1/256 "
    "model.activation_fraction=none train.seed=0",
)


def get_config() -> ConfigDict:
    """The configuration, for --config=FILE."""
    frontier = FrontierConfig(
        series=SERIES,
        compare=COMPARE,
        seeds=(0, 1, 2),
        learning_rates=(1e-3, 3e-3, 1e-2),
        tasks_planned=18,
        flops_per_second=3e14,
        bytes_per_second=4e12,
        compile_seconds=600.0,
        chips=8,
    )
    config = paper(d_model=1024, target=1 / 64)
    mesh = MeshConfig(accumulate=2, scan_layers=True)
    return to_config_dict(dataclasses.replace(config, mesh=mesh, prune=PRUNE, frontier=frontier))

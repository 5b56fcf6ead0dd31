"""The dense baselines: the same decoder as an ordinary one, at d_model 256 E.

Gao et al. 2025, the dense models that circuits are compared with and bridges start from
(the released dense1_1x, dense1_2x, dense1_4x): every weight and every activation is kept, the rest is as in
paper_8x1024, so that each has 2,000,011,264 tokens. Those who loaded the released dense1_1x report 4 layers
(--config.model.n_layer=4); the depth of the other two is not known to us.

    index  expansion    parameters      nonzeros    weights
        0          1    11,557,248     7,358,464    1 in 1.0
        1          2    31,503,104    27,299,840    1 in 1.0
        2          4   109,143,552   104,931,328    1 in 1.0

GB a chip of the widest (E = 4), batch and state split over all chips: parameters, moments and gradient
(state); what the backward pass keeps, as the plan of a run estimates it:

    machine  chips  mesh.accumulate  state  activations  memory
    v4-8         4                1    0.4          2.0      32
    v5e-16      16                1    0.1          0.5      16
    H100         1                1    1.7          8.1      80

An array job over the indices (launch/ has SLURM, GKE and one GPU box), each of them being

    python -m circuits_jax pretrain --config=dense_baselines:0 --workdir=runs/dense/0

For a laptop's CPU: --config=dense_baselines:0,runlocal.
"""

from ml_collections import ConfigDict

from circuits_jax.config import Config
from circuits_jax.configs.paper import dense
from circuits_jax.configs.variants import element

CONFIGS: tuple[Config, ...] = tuple(dense(256 * expansion) for expansion in (1, 2, 4))


def get_config(variant: str) -> ConfigDict:
    """One element, for --config=FILE:INDEX[,runlocal]."""
    return element(CONFIGS, variant)

"""The paper's recipe at its main size: 8 layers of d_model 2048.

Gao et al. 2025, the sections on architecture and on weight-sparse training (docs/method.md), as in
paper_8x1024. 1 weight in 512 is what j = 4 leaves of a unit with 2048 inputs;
--config.sparsity.target=0.001 --config.sparsity.floor=2 goes to 1 in 1000. The released csp_yolo2 is as large
with a context of 1024 and positions: csp_yolo2 has its shape.

    parameters  415,419,392
    nonzeros    803,104 of the 411,189,248 that can be zero
    tokens      2,000,011,264, 122,071 steps of 64 x 256

Our choices: the number of tokens (the paper's is not known to us; the authors' simple trainer takes 100M,
--config.train.steps=6104) and the learning rate, a guess to be swept. Nobody has trained this configuration
here.

GB a chip, batch and state split over all chips: parameters, moments and gradient (state); what the backward
pass keeps, as the plan of a run estimates it:

    machine  chips  mesh.accumulate  state  activations  memory
    v4-8         4                1    1.7          4.0      32
    v5e-16      16                1    0.4          1.0      16
    H100         1                1    6.6         15.8      80

    python -m circuits_jax pretrain --config=paper_8x2048 --workdir=runs/paper_8x2048

For a laptop's CPU: --config=paper_8x2048:runlocal. So many tokens want a larger
corpus than the standard library (--config.data.source).
"""

from ml_collections import ConfigDict

from circuits_jax.configs.paper import paper
from circuits_jax.configs.variants import one


def get_config(variant: str = "") -> ConfigDict:
    """The configuration, or with "runlocal" its small double, for --config=FILE[:runlocal]."""
    return one(paper(d_model=2048, target=1 / 512), variant)

"""The paper's recipe at 8 layers of d_model 1024.

Gao et al. 2025, the sections on architecture and on weight-sparse training (docs/method.md): context 256,
vocabulary 2048, d_head 16, AbsTopK 1/4, a sink a head, bigram table, floor j = 4, L0 annealed linearly from
1 % to 50 % of the steps, sharkfin. 1 weight in 256 is what j = 4 leaves of a unit with 1024 inputs, hence
the sparsest that this width allows; the paper's sparsest models, about 1 in 1000, are wider. The released
csp_yolo1 is as wide and deeper: csp_yolo1 has its shape.

    parameters  109,143,552
    nonzeros    409,888 of the 104,931,328 that can be zero
    tokens      2,000,011,264, 122,071 steps of 64 x 256

Our choices: the number of tokens (the paper's is not known to us; the authors' simple trainer takes 100M,
--config.train.steps=6104) and the learning rate, a guess to be swept. Nobody has trained this configuration
here.

GB a chip, batch and state split over all chips: parameters, moments and gradient (state); what the backward
pass keeps, as the plan of a run estimates it:

    machine  chips  mesh.accumulate  state  activations  memory
    v4-8         4                1    0.4          2.0      32
    v5e-16      16                1    0.1          0.5      16
    H100         1                1    1.7          8.1      80

    python -m circuits_jax pretrain --config=paper_8x1024 --workdir=runs/paper_8x1024

For a laptop's CPU: --config=paper_8x1024:runlocal. So many tokens want a larger
corpus than the standard library (--config.data.source).
"""

from ml_collections import ConfigDict

from circuits_jax.configs.paper import paper
from circuits_jax.configs.variants import one


def get_config(variant: str = "") -> ConfigDict:
    """The configuration, or with "runlocal" its small double, for --config=FILE[:runlocal]."""
    return one(paper(d_model=1024, target=1 / 256), variant)

"""The shape of the released csp_yolo2: 8 layers of d_model 2048 with AbsTopK and concatenated positions.

From its published configuration: 128 heads of 16 channels, 8192 neurons, context 1024, vocabulary 2048, 32
channels of position beside the residual stream, a sink a head, AbsTopK 1/4 at eight places, a bigram table.
The released README counts 475M parameters; below are all. How many of its weights are zero is not known to
us: 1 in 512 stays here, as in paper_8x2048. It is trained as that is (docs/method.md), in windows of 1024
tokens, as many tokens a step.

    parameters  419,122,688
    nonzeros    810,336 of the 414,892,032 that can be zero
    tokens      2,000,011,264, 122,071 steps of 16 x 1024

Our choices: the number of tokens (that of the released one is not known to us) and the learning rate, a guess
to be swept. Nobody has trained this configuration here.

GB a chip, batch and state split over all chips: parameters, moments and gradient (state); what the backward
pass keeps, as the plan of a run estimates it:

    machine  chips  mesh.accumulate  state  activations  memory
    v4-8         4                1    1.7          4.0      32
    v5e-16      16                1    0.4          1.0      16
    H100         1                1    6.7         15.9      80

    python -m circuits_jax pretrain --config=csp_yolo2 --workdir=runs/csp_yolo2

For a laptop's CPU: --config=csp_yolo2:runlocal. So many tokens want a larger
corpus than the standard library (--config.data.source).
"""

from ml_collections import ConfigDict

from circuits_jax.config import ModelConfig
from circuits_jax.configs.paper import recipe
from circuits_jax.configs.variants import one

CONFIG = recipe(
    ModelConfig(n_layer=8, d_model=2048, n_ctx=1024, vocab_size=2048, position="concat", d_pos=32),
    target=1 / 512,
)


def get_config(variant: str = "") -> ConfigDict:
    """The configuration, or with "runlocal" its small double, for --config=FILE[:runlocal]."""
    return one(CONFIG, variant)

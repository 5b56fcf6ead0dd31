"""The shape of the released csp_yolo1: 12 layers of d_model 1024, weight-sparse, every activation kept.

From its published configuration: 128 heads of 8 channels, 4096 neurons, context 1024, vocabulary 2048,
positions added, no sinks, no AbsTopK, a bigram table. The released README counts 118M parameters; below are
all. Its `pfrac` of 0.0625 we take for the fraction of weights kept: at four times the width, as many as the
narrow model has. It is older than the paper's models, and was trained for several fractions at once; here it
is trained as those are (docs/method.md), in windows of 1024 tokens, as many tokens a step.

    parameters  160,568,320
    nonzeros    9,771,776 of the 156,348,416 that can be zero
    tokens      2,000,011,264, 122,071 steps of 16 x 1024

Our choices: the number of tokens (that of the released one is not known to us) and the learning rate, a guess
to be swept. Nobody has trained this configuration here.

GB a chip, batch and state split over all chips: parameters, moments and gradient (state); what the backward
pass keeps, as the plan of a run estimates it:

    machine  chips  mesh.accumulate  state  activations  memory
    v4-8         4                1    0.6          3.0      32
    v5e-16      16                1    0.2          0.7      16
    H100         1                1    2.6         11.9      80

    python -m circuits_jax pretrain --config=csp_yolo1 --workdir=runs/csp_yolo1

For a laptop's CPU: --config=csp_yolo1:runlocal. So many tokens want a larger
corpus than the standard library (--config.data.source).
"""

from ml_collections import ConfigDict

from circuits_jax.config import ModelConfig
from circuits_jax.configs.paper import recipe
from circuits_jax.configs.variants import one

CONFIG = recipe(
    ModelConfig(
        n_layer=12,
        d_model=1024,
        n_ctx=1024,
        vocab_size=2048,
        d_head=8,
        position="add",
        attention_sink=False,
        activation_fraction=None,
    ),
    target=1 / 16,
)


def get_config(variant: str = "") -> ConfigDict:
    """The configuration, or with "runlocal" its small double, for --config=FILE[:runlocal]."""
    return one(CONFIG, variant)

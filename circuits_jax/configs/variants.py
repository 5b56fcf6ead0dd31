"""What may stand after the colon of --config=FILE:VARIANT.

A file with one configuration takes nothing or `runlocal`; a file with an array of them takes an index,
`FILE:3`, which may be followed by `,runlocal`.  A sweep is therefore an array job over indices, whichever
scheduler runs it, and not a script of ours.
"""

import dataclasses
from collections.abc import Sequence

from ml_collections import ConfigDict

from circuits_jax.config import Config
from circuits_jax.configs.config_dict import to_config_dict
from circuits_jax.storage.errors import ConfigError

RUN_LOCAL = "runlocal"
# runlocal is narrower by this factor; a fraction of weights is larger by it, so that a unit keeps as many.
SHRINK = 16


def one(config: Config, variant: str) -> ConfigDict:
    """`config`, or its `runlocal` variant.

    Raises:
      ConfigError: for any other variant.
    """
    if variant not in ("", RUN_LOCAL):
        raise ConfigError(f"unknown variant {variant!r} of the configuration; choose {RUN_LOCAL} or none")
    return to_config_dict(run_local(config) if variant else config)


def element(configs: Sequence[Config], variant: str) -> ConfigDict:
    """The configuration that `variant`, "INDEX" or "INDEX,runlocal", names.

    Raises:
      ConfigError: if it names none.
    """
    index, _, rest = variant.partition(",")
    if not index.isdecimal() or int(index) >= len(configs):
        raise ConfigError(
            f"{variant!r} is no element of this array of configurations; "
            f"name one by its index, --config=FILE:0 to --config=FILE:{len(configs) - 1}"
        )
    return one(configs[int(index)], rest)


def run_local(config: Config) -> Config:
    """The same recipe at a size that a laptop's CPU trains in a minute.

    Two layers of a sixteenth of the width, 64 tokens of context, 512 pieces, 60 steps of 8 windows.  A unit
    keeps as many weights as in the large model, as far as it has them.
    """
    model = dataclasses.replace(
        config.model, n_layer=2, d_model=config.model.d_model // SHRINK, n_ctx=64, vocab_size=512
    )
    sparsity = dataclasses.replace(config.sparsity, target=min(1.0, SHRINK * config.sparsity.target))
    train = dataclasses.replace(
        config.train, steps=60, batch_size=8, log_every=10, eval_every=30, eval_batches=2, checkpoint_every=30
    )
    return dataclasses.replace(config, model=model, sparsity=sparsity, train=train)

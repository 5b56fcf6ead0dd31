"""Width at a fixed number of nonzeros, on a laptop: are wider, sparser models better and easier to read?

    python -m circuits_jax frontier --config=frontier_width --workdir=runs/width --plan
    python -m circuits_jax frontier --config=frontier_width --workdir=runs/width

The paper's second figure.  A series has one number of nonzero weights and three widths; all else is as in
frontier_laptop, but for 4000 steps.  The table "First and last size" of the page says by how much the widest
differ from the narrowest, in loss and in edges.  Rates are tried at the middle width.
"""

import dataclasses

from ml_collections import ConfigDict

from circuits_jax.config import FrontierConfig
from circuits_jax.configs.config_dict import to_config_dict
from circuits_jax.configs.figures import figures
from circuits_jax.configs.frontier_laptop import laptop

WIDTHS = (64, 128, 192)
NONZEROS = (25_000, 50_000)


def sparse_entries(d_model: int) -> int:
    """Entries that can be zero in a model of the laptop's depth and of `d_model`."""
    config = laptop()
    return figures(
        dataclasses.replace(config, model=dataclasses.replace(config.model, d_model=d_model))
    ).sparse


def row(nonzeros: int) -> str:
    """The series of one number of nonzeros."""
    targets = ",".join(f"{nonzeros / sparse_entries(width):.6g}" for width in WIDTHS)
    return f"{nonzeros} nonzeros: model.d_model={','.join(map(str, WIDTHS))} sparsity.target={targets}"


def get_config() -> ConfigDict:
    """The configuration, for --config=FILE."""
    frontier = FrontierConfig(
        series=tuple(map(row, NONZEROS)),
        seeds=(0, 1),
        learning_rates=(5e-3, 1e-2, 2e-2),
        tasks_planned=8,
    )
    return to_config_dict(dataclasses.replace(laptop(), frontier=frontier))

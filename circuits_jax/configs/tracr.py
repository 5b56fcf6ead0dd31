"""Pruning networks that tracr compiled, whose circuits are known: `python -m circuits_jax tracr`.

Compiled networks are exact, so the target is that of an answer which is right on every input: one wrong input
in two hundred costs more (docs/statistics.md, "Compiled programs").
"""

from ml_collections import ConfigDict

from circuits_jax.config import Config, PruneConfig
from circuits_jax.configs.config_dict import to_config_dict


def get_config() -> ConfigDict:
    """The configuration, for --config=FILE."""
    prune = PruneConfig(steps=100, train_pairs=256, target=0.02, importance_nodes=0)
    return to_config_dict(Config(prune=prune))

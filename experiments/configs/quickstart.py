"""The quickstart: a small weight-sparse model and three circuits in ten minutes on two cores."""

from ml_collections import ConfigDict

from circuits_jax.config import Config
from experiments.configs import to_config_dict


def get_config() -> ConfigDict:
    """The default configuration, which is the quickstart's."""
    return to_config_dict(Config())

"""What is wrong with a model that can be opened all the same: told, and refused where it would be trained."""

import sys
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from circuits_jax.config import TOPK_LOCATIONS, ModelConfig
from circuits_jax.model import sites
from circuits_jax.model.parameters import parameter_name
from circuits_jax.storage import notices
from circuits_jax.storage.errors import ConfigError

_EXAMPLES = 3


def not_finite(params: Mapping[str, Any]) -> str | None:
    """Which parameters hold NaN or infinity, in words; None if none does."""
    counts = {
        parameter_name(path): int(np.size(leaf) - np.isfinite(np.asarray(leaf, np.float32)).sum())
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    found = [f"{name} ({count:,} values)" for name, count in counts.items() if count]
    if not found:
        return None
    more = f" and {len(found) - _EXAMPLES} more" if len(found) > _EXAMPLES else ""
    return f"NaN or infinity in {', '.join(found[:_EXAMPLES])}{more}"


def silenced(config: ModelConfig) -> list[str]:
    """Where AbsTopK keeps none of the entries, in words."""
    found = []
    for location in TOPK_LOCATIONS:
        width = sites.topk_width(config, location)
        if config.kept_activations(location, width) == 0:
            found.append(f"0 of {width} at {location}")
    return found


def refuse_silenced(config: ModelConfig) -> None:
    """Raises ConfigError if AbsTopK would keep nothing somewhere: such a model cannot be trained."""
    found = silenced(config)
    if found:
        raise ConfigError(
            f"model.activation_fraction is {config.activation_fraction}, so small that AbsTopK keeps "
            f"{', '.join(found)}: nothing passes there; set a larger one, or None for no AbsTopK"
        )


def tell(source: str, config: ModelConfig, params: Mapping[str, Any]) -> None:
    """Says what is wrong with a model that was opened, at once and when the command ends."""
    found = silenced(config)
    odd = [f"AbsTopK keeps {', '.join(found)}: nothing passes there"] if found else []
    values = not_finite(params)
    odd += [f"there is {values}: its results mean nothing"] if values else []
    for line in odd:
        warning = f"WARNING: the model {source}: {line}"
        print(warning, file=sys.stderr, flush=True)
        notices.at_the_end(warning)

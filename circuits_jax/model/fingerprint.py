"""A hash that says whether two models are the same one."""

import hashlib
import json

import jax
import numpy as np

from circuits_jax.config import ModelConfig, to_dict
from circuits_jax.config.identity import identity
from circuits_jax.model.transformer import Params


def model_hash(config: ModelConfig, params: Params) -> str:
    """SHA-256 in hex of the configuration's identity and of every parameter's name, shape, type and bytes."""
    settings = identity(type(config), to_dict(config))
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path, leaf in sorted(jax.tree_util.tree_leaves_with_path(params), key=lambda item: str(item[0])):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()

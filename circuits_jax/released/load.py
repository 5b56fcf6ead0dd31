"""Released checkpoints in: `load(path)` reads every layout they are published in."""

import os
from collections.abc import Collection, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from circuits_jax.config import ModelConfig
from circuits_jax.data.tokenizers.folder import load_released_tokenizer
from circuits_jax.model.model import Model
from circuits_jax.model.transformer import init_params
from circuits_jax.released.config import config_from_released
from circuits_jax.released.listing import listed
from circuits_jax.released.mapped_files import read_safetensors
from circuits_jax.released.remote import fetched, shard_names
from circuits_jax.released.state_dict import LOGITS_BIAS, WRAPPERS, params_from_state
from circuits_jax.released.torch_files.read import read_torch_file
from circuits_jax.storage.errors import CheckpointError
from circuits_jax.storage.files import read_json
from circuits_jax.storage.paths import exists, is_folder
from circuits_jax.training.mesh import partition

BUCKET_CONFIG, BUCKET_WEIGHTS = "beeg_config.json", "final_model.pt"
HUB_CONFIG, HUB_WEIGHTS, HUB_INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PLAIN_WEIGHTS = "weights.safetensors"
# The weights a folder may hold, the first that is there being read.
WEIGHTS = (BUCKET_WEIGHTS, HUB_WEIGHTS, HUB_INDEX, PLAIN_WEIGHTS)


def load(
    path: str | Path,
    strict: bool = True,
    mesh: Mesh | None = None,
    rules: Sequence[partition.PartitionRule] = (),
) -> Model:
    """Loads a released checkpoint, or one exported in a released layout.

    Args:
      path: One of
        * a folder with `beeg_config.json` and `final_model.pt` (the bucket layout), or with `config.json`
          and `model.safetensors`, `model.safetensors.index.json` and its shards, or `weights.safetensors`;
        * a single `.pt` or `.safetensors` file with its configuration beside it;
        * `hf:owner/name` or `hf:owner/name@revision`, by huggingface_hub (cached; name a revision to pin it);
        * `gs://...`, `https://...` or another URL of a folder or file, by fsspec, fetched anew each time.
      strict: Whether unknown config keys, surplus tensors, and tied weights that differ are errors;
        otherwise they are told in a warning.
      mesh: Devices over which each tensor is split as in training (`training.mesh.partition`), straight from
        the file: no device, and no process, ever holds a whole copy.  None gives numpy arrays.
      rules: How to split tensors that the rules of training would split otherwise.

    Returns:
      The model, its weights (float32, float16 or bfloat16 in the file) as float32.

    Raises:
      CheckpointError: whatever is wrong with the checkpoint, in one line.
      ConfigError: if the mesh does not divide a tensor.
    """
    with fetched(path, WEIGHTS) as local:
        weights = _find_weights(local)
        config_path = _find_config(weights)
        raw = read_json(config_path)
        if "format" in raw:  # of `sparse_format`, which stands on this module
            raise CheckpointError(f"{config_path} is of format {raw['format']!r}; load_sparse reads that")
        state = _read_state(weights)
        try:
            config = config_from_released(raw, LOGITS_BIAS in state, strict)
        except CheckpointError as error:
            raise CheckpointError(f"{config_path}: {error}") from error
        places = None if mesh is None else _shardings(config, mesh, rules)
        try:
            params = params_from_state(state, config, strict, places)
        except CheckpointError as error:
            raise CheckpointError(f"{weights}: {error}") from error
        tokenizer = load_released_tokenizer(weights.parent, config.vocab_size)
    return Model(config, params, tokenizer, str(path), raw)


def _shardings(config: ModelConfig, mesh: Mesh, rules: Sequence[partition.PartitionRule]) -> Any:
    """The tree of shardings of a model's parameters."""
    shapes = jax.eval_shape(lambda: init_params(config, jax.random.PRNGKey(0)))
    table = partition.combined(rules, partition.model_rules(config), shapes)
    return partition.shardings(shapes, table, mesh)


def _find_weights(path: Path) -> Path:
    """The weights file that `path`, a folder or a file, stands for."""
    if exists(path) and path.is_file():
        return path
    if not is_folder(path):
        raise CheckpointError(f"{path} is neither a folder nor a file")
    for name in WEIGHTS:
        if (path / name).is_file():
            return path / name
    raise CheckpointError(f"{path} holds no weights; expected one of {', '.join(WEIGHTS)}")


def _find_config(weights: Path) -> Path:
    """The configuration beside a weights file, that of its own layout first."""
    names = (HUB_CONFIG, BUCKET_CONFIG)
    if weights.suffix == ".pt":
        names = names[::-1]
    for name in names:
        if (weights.parent / name).is_file():
            return weights.parent / name
    wanted = " or ".join(names)
    raise CheckpointError(f"{weights.parent} holds no configuration beside {weights.name}; expected {wanted}")


def _read_state(weights: Path) -> MutableMapping[str, np.ndarray]:
    """The state dict in `weights`, under the released names."""
    if weights.name.endswith(".index.json"):
        state = _read_shards(weights)
    elif weights.suffix == ".pt":
        state = read_torch_file(weights)
    elif weights.suffix == ".safetensors":
        state = read_safetensors(weights)
    else:
        raise CheckpointError(f"{weights} is of an unknown kind; a checkpoint is a .pt or .safetensors file")
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise CheckpointError(f"{weights} holds no state dict of named tensors")
    others = [name for name, value in state.items() if not isinstance(value, np.ndarray)]
    if others or not state:
        raise CheckpointError(f"{weights} holds no state dict: {listed(others) or 'it is empty'}")
    wrapper = _common_wrapper(state)
    return {name.removeprefix(wrapper): state.pop(name) for name in list(state)} if wrapper else state


def _common_wrapper(names: Collection[str]) -> str:
    """What stands before every name: prefixes of modules that the model was wrapped in, one after another."""
    common = os.path.commonprefix(list(names))
    found = ""
    while wrapper := next((w for w in WRAPPERS if common.startswith(found + w)), None):
        found += wrapper
    return found


def _read_shards(index: Path) -> dict[str, np.ndarray]:
    """The tensors of every shard that a `model.safetensors.index.json` names."""
    state: dict[str, np.ndarray] = {}
    for name in shard_names(index):
        state |= read_safetensors(index.parent / name)
    return state

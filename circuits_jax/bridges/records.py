"""Bridges as a folder of two files: `bridge.json`, which says what they join, and `bridge.safetensors`."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from circuits_jax.bridges.model import DENSE, SPARSE, Bridge, BridgeParams, init_bridge, make_bridge
from circuits_jax.config import BridgeConfig, Config, ModelConfig, from_dict, to_dict
from circuits_jax.data.local_copy import RUN_TOKENIZER_FILES
from circuits_jax.model.parameters import trained_part
from circuits_jax.model.transformer import Params
from circuits_jax.sparsity.optimizer import make_optimizer
from circuits_jax.storage.errors import BridgeError, CheckpointError
from circuits_jax.storage.files import read_bytes, read_json, write_aside, write_json
from circuits_jax.storage.stopping import held
from circuits_jax.training import workdir as workdirs
from circuits_jax.training.checkpoints import Checkpoints
from circuits_jax.training.multihost.processes import is_primary
from circuits_jax.training.state import make_init

FORMAT, VERSION = "circuits_jax.bridge", 1
MANIFEST, TENSORS = "bridge.json", "bridge.safetensors"
# What trains bridges, as errors name it.
COMMAND = "python -m circuits_jax bridges --config=bridges --config.bridge.dense=DENSE_MODEL --workdir=DIR"


@dataclasses.dataclass(frozen=True)
class Hashes:
    """What bridges belong to: the hashes of the two models (`model_hash`) and of their tokenizer."""

    dense: str
    sparse: str
    tokenizer: str


def save_bridge(
    folder: Path, bridge: Bridge, params: BridgeParams, config: BridgeConfig, hashes: Hashes
) -> None:
    """Writes the two files, each aside and then renamed; the manifest, last, names the other's hash."""
    arrays = {
        f"{side}/{name}": np.asarray(leaf) for side, leaves in params.items() for name, leaf in leaves.items()
    }
    tensors = save_tensors(arrays)
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "sites": list(bridge.sites),
        "dense": to_dict(bridge.dense),
        "sparse": to_dict(bridge.sparse),
        "settings": to_dict(config),
        "hashes": dataclasses.asdict(hashes),
        "tensors": {"file": TENSORS, "sha256": hashlib.sha256(tensors).hexdigest()},
    }
    with held():  # one without the other would be no bridges
        with write_aside(folder / TENSORS) as file:
            file.write(tensors)
        write_json(folder / MANIFEST, manifest)


def load_bridge(folder: Path, hashes: Hashes) -> tuple[Bridge, BridgeParams]:
    """Reads what `save_bridge` wrote, for these models.

    Raises:
      BridgeError: if there are none, they are damaged, or they join other models.
    """
    try:
        manifest, content = read_json(folder / MANIFEST), read_bytes(folder / TENSORS)
    except CheckpointError as error:
        raise BridgeError(f"no bridges can be read: {error}; train them: {COMMAND}") from error
    if (manifest.get("format"), manifest.get("version")) != (FORMAT, VERSION):
        raise BridgeError(f"{folder / MANIFEST} holds no bridges of version {VERSION} of {FORMAT}")
    try:
        there = Hashes(**manifest["hashes"])
        models = [from_dict(ModelConfig, manifest[side], side) for side in (DENSE, SPARSE)]
        bridge = make_bridge(*models, from_dict(BridgeConfig, manifest["settings"], "settings"))
        params = _unpack(content, manifest["tensors"]["sha256"], bridge)
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise BridgeError(f"{folder} is damaged ({error}); train the bridges again") from error
    _check_hashes(folder, there, hashes)
    return bridge, params


def save_model(workdir: Path, config: Config, params: Params, tokenizer_folder: Path) -> None:
    """Makes `workdir` that of a finished run of pretraining, so that every command takes it.

    Its checkpoint has those parameters that are trained, and an optimizer at zero; the tokenizer's files are
    copied.  Called by all processes of a run, which write a checkpoint together.
    """
    config = dataclasses.replace(config, bridge=BridgeConfig())
    shapes = jax.eval_shape(make_init(config, make_optimizer(config)))
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    step = np.asarray(config.train.steps, shapes.step.dtype)
    state = state.replace(params=trained_part(config.model, params), step=step)
    workdirs.claim(workdir, config)
    for name in RUN_TOKENIZER_FILES:
        if is_primary() and (tokenizer_folder / name).exists():
            with write_aside(workdir / name) as file:
                file.write((tokenizer_folder / name).read_bytes())
    checkpoints = Checkpoints(workdir, config.train.keep_checkpoints)
    checkpoints.save(config.train.steps, state)
    checkpoints.close()


def _unpack(content: bytes, sha256: str, bridge: Bridge) -> BridgeParams:
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{TENSORS} is cut short or altered")
    arrays = load_tensors(content)
    shapes = jax.eval_shape(lambda: init_bridge(bridge, jax.random.PRNGKey(0)))

    def take(path: tuple[Any, ...], leaf: Any) -> np.ndarray:
        array = arrays["/".join(key.key for key in path)]
        if array.shape != leaf.shape:
            raise ValueError(f"{path} has the shape {array.shape}, not {leaf.shape}")
        return array

    return jax.tree_util.tree_map_with_path(take, shapes)


def _check_hashes(folder: Path, there: Hashes, here: Hashes) -> None:
    for name in ("dense", "sparse", "tokenizer"):
        ours, theirs = getattr(there, name), getattr(here, name)
        if ours != theirs:
            what = name if name == "tokenizer" else f"{name} model"
            raise BridgeError(
                f"the bridges in {folder} join the {what} {ours[:12]}, not {theirs[:12]}; name the models "
                "they were trained with, or train bridges for these"
            )

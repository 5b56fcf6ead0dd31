"""Models out, in the two layouts that released checkpoints come in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.numpy

from circuits_jax.config import ModelConfig
from circuits_jax.config.checks import check_choice
from circuits_jax.data.tokenizers.folder import save_released_tokenizer
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.released.config import config_to_released
from circuits_jax.released.load import BUCKET_CONFIG, BUCKET_WEIGHTS, HUB_CONFIG, HUB_WEIGHTS
from circuits_jax.released.state_dict import WRAPPER, state_from_params
from circuits_jax.released.torch_files.write import write_torch_file
from circuits_jax.storage.files import write_aside, write_json
from circuits_jax.storage.paths import as_path

LAYOUTS = ("bucket", "huggingface")


def export(
    params: Mapping[str, Any],
    config: ModelConfig,
    folder: str | Path,
    layout: str = "bucket",
    tokenizer: Tokenizer | None = None,
) -> Path:
    """Writes a model as `openai/circuit_sparsity` publishes its own; `load` gives it back bit for bit.

    What the layouts cannot say: a model without positions is written with a position table of zeros, and
    so comes back as one with added positions, with equal logits; the compute dtype is not kept; a
    `logits_bias` that the model has not is left out, which the released loader reads as zeros.

    Args:
      params: The parameter tree, float32.
      config: Its configuration.
      folder: Written into; each file is written aside, then renamed, the configuration last.
      layout: "bucket" (`beeg_config.json`, `final_model.pt`) or "huggingface" (`config.json`,
        `model.safetensors`).
      tokenizer: Written beside the model.  The released code reads `tinypython_2k`; a SentencePiece
        model (`tokenizer.model`) is read back by this library.

    Returns:
      The folder.

    Raises:
      ConfigError: for an unknown layout.
      CheckpointError: if the layout cannot express the model, or the parameters do not fit `config`.
    """
    check_choice("layout", layout, LAYOUTS)
    folder = as_path(folder)
    values = config_to_released(config)
    state = state_from_params(params, config)
    folder.mkdir(parents=True, exist_ok=True)
    if layout == "bucket":
        write_torch_file(folder / BUCKET_WEIGHTS, state)
    else:
        wrapped = {WRAPPER + name: tensor for name, tensor in state.items()}
        with write_aside(folder / HUB_WEIGHTS) as file:
            file.write(safetensors.numpy.save(wrapped, metadata={"format": "pt"}))
        values = {"model_type": "circuitgpt", **values}
    save_released_tokenizer(tokenizer, folder)
    write_json(folder / (BUCKET_CONFIG if layout == "bucket" else HUB_CONFIG), values)
    return folder

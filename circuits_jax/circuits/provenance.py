"""What a circuit's file says of itself, checked where it is read: anyone may have edited it."""

from collections.abc import Mapping
from typing import Any

from circuits_jax.storage.paths import names_a_folder

_SIZES = ("n_layer", "d_model", "n_ctx", "vocab_size", "d_head", "n_head", "d_mlp")
_COUNTS = ("train_pairs", "select_pairs", "test_pairs", "heldout_pairs", "seed")


def check_texts(manifest: Mapping[str, Any]) -> None:
    """Raises ValueError unless names and hashes are texts, and the task's name can be its folder's."""
    texts = {
        "task": manifest["task"],
        "ablation": manifest["ablation"],
        "model.hash": manifest["model"]["hash"],
    }
    for name, value in {**texts, "tokenizer_hash": manifest["tokenizer_hash"]}.items():
        if not isinstance(value, str):
            raise ValueError(f"its {name} is {value!r}, no text")
    if not names_a_folder(manifest["task"]):
        raise ValueError(f"its task is {manifest['task']!r}, which no folder can be called")


def check_figures(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raises ValueError unless figures are numbers, and the sizes that exports count by are counts."""
    for name, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"its {name} is {value!r}, no number")
    for name in _SIZES:
        value = config.get(name)
        if value is not None and (type(value) is not int or not 0 < value < 2**31):
            raise ValueError(f"its model's {name} is {value!r}, no size")


def check_provenance(provenance: Any) -> None:
    """Raises ValueError unless what later commands draw the circuit's pairs by is of the right types."""
    if not isinstance(provenance, Mapping):
        raise ValueError("its provenance is no object")
    _check_list("pairs", provenance.get("pairs"))
    prune = provenance.get("prune")
    if prune is None:
        return
    if not isinstance(prune, Mapping):
        raise ValueError(f"its prune is {prune!r}, no object")
    _check_list("prune.tasks", prune.get("tasks"))
    for name in _COUNTS:
        value = prune.get(name, 0)
        if type(value) is not int or not 0 <= value < 2**63:
            raise ValueError(f"its prune.{name} is {value!r}, no count")


def _check_list(name: str, value: Any) -> None:
    if value is not None and (
        not isinstance(value, list) or not all(isinstance(each, str) for each in value)
    ):
        raise ValueError(f"its {name} is {value!r}, no list of texts")

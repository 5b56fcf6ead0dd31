"""Corpora of runs that are older than corpora that runs own.

Their windows lie below `data/windows`, called by what they were made of, and are taken over as they are,
without their sources.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from circuits_jax.config import DataConfig
from circuits_jax.data import store
from circuits_jax.data.programs.generator import GeneratedConfig, GeneratedSource
from circuits_jax.data.tokenizers import tinypython
from circuits_jax.data.tokenizers.bpe import load_tokenizer
from circuits_jax.data.windows import map_tokens, write_windows
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.storage import filenames
from circuits_jax.storage.files import read_json_if_any

_Counts = dict[str, Any]


def adopt(config: DataConfig, n_ctx: int, data: Path, scratch: Path, place: Path) -> Path | None:
    """Makes a corpus of the windows that an earlier release packed for a run.

    Args:
      config: Of that run.
      n_ctx: Tokens of a window, less one.
      data: The run's folder `data`.
      scratch: A folder to write to, which is gone afterwards.
      place: Gets the corpus' folder.

    Returns:
      That folder; None if the windows are not there, or not whole.
    """
    path = data.parent / filenames.TOKENIZER
    if not path.exists() and not tinypython.lies_in(data.parent):
        return None
    tokenizer = load_tokenizer(path)
    for about in _documents(data):
        validation = _read(data, "validation", _identity(config, n_ctx, tokenizer, about, []))
        trains = (
            _read(data, "train", _identity(config, n_ctx, tokenizer, about, programs))
            for programs in _programs(data, config)
        )
        train = next((found for found in trains if found is not None), None)
        if train is None or validation is None:
            continue
        scratch.mkdir(parents=True, exist_ok=True)
        found = {"train": train, "validation": validation}
        for split, (tokens, _) in found.items():
            name = scratch / store.windows_file(split)
            with write_windows(name, tokenizer.eot, n_ctx, tokenizer.vocab_size) as writer:
                writer.copy(tokens)
        facts = {
            "files": sum(counts["files"] for _, counts in found.values()),
            "bytes": sum(counts["bytes"] for _, counts in found.values()),
            "skipped": about.get("skipped", 0),
            "content": about["content"],
            "made_of": "windows of an earlier release",
        }
        counts = {split: counts for split, (_, counts) in found.items()}
        return store.keep(scratch, place, tokenizer, counts, facts)
    return None


def _documents(data: Path) -> Iterator[dict[str, Any]]:
    """What is known of the documents of the run: first of those that its tokenizer was trained on."""
    built = [read_json_if_any(path) for path in sorted((data / "documents").glob("*/*/metadata.json"))]
    record = read_json_if_any(data / "tokenizer.json").get("made_of")
    if isinstance(record, dict) and "corpus" in record:
        content = record["corpus"]
        yield next((about for about in built if about.get("content") == content), {"content": content})
        return
    yield from (about for about in built if "content" in about)


def _programs(data: Path, config: DataConfig) -> Iterator[list[str]]:
    """Hashes of the generated programs that may have been mixed in, in their order."""
    if not config.generated_share:
        yield []
        return
    for folder in sorted((data / GeneratedSource.name).glob("*/")):
        try:
            # By a class of ours: TFDS would import whatever module a folder's features.json names.
            builder = GeneratedSource(data_dir=data, config=GeneratedConfig(name=folder.name))
            source = builder.as_data_source("train")
            yield [source[index]["sha256"].decode() for index in range(len(source))]
        except Exception:  # TFDS and array_record raise anything over what is damaged or half written
            continue


def _identity(
    config: DataConfig, n_ctx: int, tokenizer: Tokenizer, about: dict[str, Any], programs: list[str]
) -> dict[str, Any]:
    """What named a file of windows."""
    return {
        "format": 1,
        "corpus": about["content"],
        "tokenizer": tokenizer.hash,
        "n_ctx": n_ctx,
        "seed": config.seed,
        "generated": programs,
        "share": config.generated_share if programs else 0,
    }


def _read(data: Path, split: str, identity: dict[str, Any]) -> tuple[np.ndarray, _Counts] | None:
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    path = data / "windows" / f"{split}-{name}"
    sidecar = read_json_if_any(path.with_suffix(".json"))
    try:
        tokens = map_tokens(path.with_suffix(".npy"))
        return (tokens, sidecar["counts"]) if tokens.shape == tuple(sidecar["shape"]) else None
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None

"""A compact format for sparse weights, told for readers in any language in `released/README.md`."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from circuits_jax.config import ModelConfig, from_dict, to_dict
from circuits_jax.data.counts_file import Origin, load_counts, read_counts
from circuits_jax.data.tokenizers.folder import load_released_tokenizer, save_released_tokenizer
from circuits_jax.model.model import Model
from circuits_jax.model.parameters import BIGRAM, BLOCK, build_tree, named, parameters
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.released.listing import listed
from circuits_jax.released.mapped_files import read_safetensors
from circuits_jax.released.state_dict import Tree, leaves
from circuits_jax.storage import filenames
from circuits_jax.storage.errors import CheckpointError, ConfigError
from circuits_jax.storage.files import read_bytes, read_json, write_aside, write_json
from circuits_jax.storage.paths import as_path

FORMAT = "circuits_jax sparse weights"
# The second has a bigram table as the counts that it follows from, and is written of such a model alone.
VERSION, VERSION_WITH_COUNTS = 1, 2
CONFIG, WEIGHTS = "config.json", "weights.safetensors"
_GAPS, _VALUES, _SHAPE = ".gaps", ".values", ".shape"
_COUNTS = "bigram_counts"  # in the configuration: what they are of
_AGAIN = "copy the folder again from where it was made"
_GAP_TYPES = (np.uint8, np.uint16, np.uint32, np.uint64)


def save_sparse(
    params: Mapping[str, Any],
    config: ModelConfig,
    folder: str | Path,
    tokenizer: Tokenizer | None = None,
    counts: Path | None = None,
) -> Path:
    """Writes a model in the sparse format: what is not zero, and where it lies.

    Args:
      params: The parameter tree, float32; with `counts` its bigram table may be missing.
      config: Its configuration.
      folder: Written into; each file is written aside, then renamed, the configuration last.
      tokenizer: Written beside the model.
      counts: The file of a run's bigram counts, `bigram.npz` of its workdir, which is copied in place of the
        table, some fifty times as large.

    Returns:
      The folder.

    Raises:
      CheckpointError: if the parameters do not fit `config`, or `counts` cannot be read.
    """
    folder = as_path(folder)
    # A switch: the table is here, as a tensor or as counts, however it came about.
    settings = to_dict(config) | {"bigram": config.has_bigram}
    about: dict[str, Any] = {"format": FORMAT, "version": VERSION, "model": settings}
    if counts is not None:
        if not config.has_bigram:
            raise CheckpointError(f"{counts} are counts of a bigram table, which the configuration has not")
        origin, _ = read_counts(counts, _AGAIN)
        about |= {"version": VERSION_WITH_COUNTS, _COUNTS: dataclasses.asdict(origin)}
        params = build_tree((name, leaf) for name, leaf in named(params).items() if name != BIGRAM)
        config = dataclasses.replace(config, bigram="none")
    tensors: dict[str, np.ndarray] = {}
    for tensor, value in leaves(params, config):
        tensors |= encode(tensor.name, value)
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"format": FORMAT, "version": str(about["version"])}
    with write_aside(folder / WEIGHTS) as file:
        file.write(_settled(safetensors.numpy.save(tensors, metadata=metadata)))
    save_released_tokenizer(tokenizer, folder)
    if counts is not None:
        with write_aside(folder / filenames.BIGRAM_COUNTS) as file:
            file.write(read_bytes(counts))
    write_json(folder / CONFIG, about)
    return folder


def load_sparse(folder: str | Path) -> Model:
    """Loads what `save_sparse` wrote, with bit-equal parameters.

    Raises:
      CheckpointError: if a file is missing or damaged, of another format or a later version, or does not
        fit the configuration.
    """
    folder = as_path(folder)
    raw = read_json(folder / CONFIG)
    if raw.get("format") != FORMAT or raw.get("version") not in (VERSION, VERSION_WITH_COUNTS):
        raise CheckpointError(
            f"{folder / CONFIG} is of format {raw.get('format')!r}, version {raw.get('version')!r}; "
            f"this library reads {FORMAT!r}, versions {VERSION} and {VERSION_WITH_COUNTS}"
        )
    try:
        config = from_dict(ModelConfig, raw.get("model", {}), "model")
        origin = Origin(**raw[_COUNTS]) if raw["version"] == VERSION_WITH_COUNTS else None
        if origin is not None and not config.has_bigram:
            raise ConfigError("there are counts of a bigram table, which the model has not")
    except (ConfigError, TypeError, AttributeError, KeyError) as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from error
    if origin is None:
        params = _read_params(folder / WEIGHTS, config)
    else:
        params = _read_params(folder / WEIGHTS, dataclasses.replace(config, bigram="none"))
        counts = load_counts(folder / filenames.BIGRAM_COUNTS, origin, config.vocab_size, _AGAIN)
        params[BIGRAM] = counts.logits(origin.prior)
    tokenizer = load_released_tokenizer(folder, config.vocab_size)
    return Model(config, params, tokenizer, str(folder), raw)


def encode(name: str, tensor: np.ndarray) -> dict[str, np.ndarray]:
    """The stored form of one float32 tensor, the smaller of dense and sparse.

    Zero means all bits zero, so that a negative zero is kept as a value.
    """
    flat = np.ascontiguousarray(tensor).reshape(-1)
    where = np.flatnonzero(flat.view(np.uint32))
    gaps = np.diff(where, prepend=0)
    kind = next(t for t in _GAP_TYPES if gaps.max(initial=0) <= np.iinfo(t).max)
    if where.size * (flat.itemsize + np.dtype(kind).itemsize) >= flat.nbytes:
        return {name: np.ascontiguousarray(tensor)}
    shape = np.asarray(tensor.shape, np.uint64)
    return {name + _SHAPE: shape, name + _GAPS: gaps.astype(kind), name + _VALUES: flat[where]}


def decode(name: str, shape: tuple[int, ...], stored: dict[str, np.ndarray]) -> np.ndarray:
    """The inverse of `encode`; takes what it reads out of `stored`.

    Raises:
      CheckpointError: if the tensor is missing, or of another type, size or shape.
    """
    if name in stored:
        tensor = stored.pop(name)
        if tensor.dtype != np.float32 or tensor.shape != shape:
            raise CheckpointError(
                f"{name} expected float32 {list(shape)}, found {tensor.dtype} {list(tensor.shape)}"
            )
        return tensor
    found, gaps, values = (stored.pop(name + part, None) for part in (_SHAPE, _GAPS, _VALUES))
    if found is None or gaps is None or values is None:
        raise CheckpointError(f"{name} is missing")
    if found.tolist() != list(shape):
        raise CheckpointError(f"{name} expected shape {list(shape)}, found {found.tolist()}")
    if values.dtype != np.float32 or gaps.dtype not in _GAP_TYPES or values.shape != (gaps.size,):
        raise CheckpointError(f"{name} expected unsigned {_GAPS} and as many float32 {_VALUES}")
    where = np.cumsum(gaps.reshape(-1), dtype=np.uint64)
    size = int(np.prod(shape, dtype=np.int64))
    # In increasing order, so that sums that wrapped around show.
    if where.size and (where[-1] >= size or np.any(where[1:] <= where[:-1])):
        raise CheckpointError(f"{name}: an index lies outside the {size} entries of {list(shape)}")
    flat = np.zeros(size, np.float32)
    flat[where] = values
    return flat.reshape(shape)


def _settled(content: bytes) -> bytes:
    """A safetensors file with its metadata by name: the library writes them in any order, and the same model
    would be other bytes each time.
    """
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def _read_params(path: Path, config: ModelConfig) -> Tree:
    stored = read_safetensors(path)
    # Looked at first, so that a mistaken number, however large, is not gone through tensor by tensor.
    if not any(name.startswith(BLOCK.format(layer=config.n_layer - 1) + "/") for name in stored):
        raise CheckpointError(f"{path} has not the {config.n_layer} layers of its configuration")
    try:
        params = build_tree((t.name, decode(t.name, t.shape, stored)) for t in parameters(config))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if stored:
        raise CheckpointError(f"{path} holds {listed(sorted(stored))}, which the configuration has not")
    return params

"""Where a checkpoint comes from: a local path, the Hugging Face hub, or any URL that fsspec reads."""

import contextlib
import importlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from circuits_jax.storage.errors import CheckpointError
from circuits_jax.storage.files import read_json
from circuits_jax.storage.paths import exists

_HUB = "hf:"
_LONGEST_REASON = 300
_BESIDE = ("beeg_config.json", "config.json", "encoder.json", "vocab.bpe", "tokenizer.model")


@contextlib.contextmanager
def fetched(path: str | Path, weights: Sequence[str]) -> Iterator[Path]:
    """Yields a local folder or file that holds what `path` names.

    Args:
      path: A local path, `hf:owner/name[@revision]`, or a URL of a folder or of one weights file.
      weights: Names of weights files a remote folder may hold; the first that is there is fetched, with
        its shards, and the configuration and tokenizer files beside it.

    Raises:
      CheckpointError: if there is nothing there, or what fetches it is not installed.
    """
    name = str(path)
    if name.startswith(_HUB):
        yield _from_hub(name.removeprefix(_HUB), weights)
    elif "://" in name:
        with tempfile.TemporaryDirectory() as folder:
            yield _from_url(name, weights, Path(folder))
    elif not exists(Path(path)):
        raise CheckpointError(f"{path} does not exist; give a folder, a file, hf:owner/name or a URL")
    else:
        yield Path(path)


def shard_names(index: Path) -> list[str]:
    """The files of a sharded checkpoint, from its `model.safetensors.index.json`.

    Raises:
      CheckpointError: if the index names none, or one outside its folder.
    """
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise CheckpointError(f"{index} has no weight_map from tensors to files")
    for name in shards.values():
        if not isinstance(name, str) or not name.endswith(".safetensors") or "/" in name or "\\" in name:
            raise CheckpointError(f"{index} names {name!r}, which is no .safetensors file of its own folder")
    return sorted(set(shards.values()))


def _from_hub(name: str, weights: Sequence[str]) -> Path:
    """The folder in huggingface_hub's cache that holds `owner/name[@revision]`."""
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise CheckpointError(
            f"{_HUB}{name} needs huggingface_hub; pip install huggingface_hub, or give a local folder"
        ) from error
    repository, _, revision = name.partition("@")
    try:
        folder = huggingface_hub.snapshot_download(
            repository, revision=revision or None, allow_patterns=[*weights, "*.safetensors", *_BESIDE]
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(f"{_HUB}{name} cannot be fetched: {_reason(error)}") from error
    return Path(folder)


def _from_url(url: str, weights: Sequence[str], folder: Path) -> Path:
    """Copies a remote checkpoint into `folder`; returns its weights file there."""
    try:
        import fsspec
    except ImportError as error:
        raise CheckpointError(f"{url} needs fsspec; pip install 'fsspec[http,gcs]'") from error
    try:
        files, root = fsspec.core.url_to_fs(url)
        names: Sequence[str] = weights
        if root.endswith((".pt", ".safetensors")):
            root, _, name = root.rpartition("/")
            names = (name,)
        found = next((name for name in names if _copy(files, root, name, folder)), None)
        if found is None:
            raise CheckpointError(f"{url} holds no weights; expected one of {', '.join(names)}")
        shards = shard_names(folder / found) if found.endswith(".index.json") else []
        missing = [shard for shard in shards if not _copy(files, root, shard, folder)]
        if missing:
            raise CheckpointError(f"{url} lacks the shard {missing[0]}")
        for name in _BESIDE:
            _copy(files, root, name, folder)
    except CheckpointError:
        raise
    except _fetching_errors() as error:
        raise CheckpointError(f"{url} cannot be fetched: {_reason(error)}") from error
    return folder / found


def _fetching_errors() -> tuple[type[Exception], ...]:
    """What fetching may raise, with what the installed libraries behind fsspec raise that is no OSError."""
    errors: list[type[Exception]] = [ImportError, OSError, ValueError]
    for library, name in (("aiohttp", "ClientError"), ("gcsfs.retry", "HttpError")):
        with contextlib.suppress(ImportError):
            errors.append(getattr(importlib.import_module(library), name))
    return tuple(errors)


def _reason(error: Exception) -> str:
    """What an error says, which may be several lines or nothing, in one."""
    return " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__


def _copy(files: Any, root: str, name: str, folder: Path) -> bool:
    """Copies one file if it is there."""
    try:  # not `exists`, which takes a network that fails for a file that is not there
        files.get_file(f"{root}/{name}", str(folder / name))
    except FileNotFoundError:
        return False
    return True

"""Where a checkpoint comes from: a local path, the Hugging Face hub, or any URL that fsspec reads."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from circuits_jax.released.download import (
    download_folder,
    fetch,
    fetching_errors,
    open_url,
    reason,
    target_name,
)
from circuits_jax.storage.errors import CheckpointError
from circuits_jax.storage.filenames import BIGRAM_COUNTS
from circuits_jax.storage.files import read_json
from circuits_jax.storage.paths import as_path, exists

HUB = "hf:"  # what the name of a checkpoint of the Hugging Face hub begins with
LEVELS = 4  # folders in which what belongs to a file is looked for: its own, and those above it
_BESIDE = (
    *("beeg_config.json", "config.json", "encoder.json", "vocab.bpe", "tokenizer.model"),
    BIGRAM_COUNTS,  # of the sparse format
)


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
    if name.startswith(HUB):
        yield _from_hub(name.removeprefix(HUB), weights)
    elif "://" in name:
        with download_folder(name) as folder:
            yield _from_url(name, weights, folder)
    elif not exists(as_path(path)):
        raise CheckpointError(f"{path} does not exist; give a folder, a file, hf:owner/name or a URL")
    else:
        yield as_path(path)


@contextlib.contextmanager
def fetched_file(path: str | Path, beside: str) -> Iterator[Path]:
    """Yields the local file that `path` names.

    Args:
      path: A local path, `hf:owner/name[@revision]/path/to/file`, or the URL of a file.
      beside: Name of a file that is fetched too where it lies in the same folder, or one of three above it.

    Raises:
      CheckpointError: if there is nothing there, or it cannot be fetched.
    """
    name = str(path)
    if name.startswith(HUB):
        yield _file_from_hub(name.removeprefix(HUB), beside)
    elif "://" in name:
        with download_folder(name) as folder:
            files, source = open_url(name)
            local = folder / target_name(source)
            if not fetch(files, source, local, name):
                raise CheckpointError(f"{name} is not there; give the address of a file")
            for above in _folders_above(source):
                if fetch(files, f"{above}/{beside}", folder / beside, name):
                    break
            yield local
    elif not exists(as_path(path)):
        raise CheckpointError(f"{path} does not exist; give a file, hf:owner/name/path/to/file or a URL")
    else:
        yield as_path(path)


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
    repository, _, revision = name.partition("@")
    return _snapshot(name, repository, revision, [*weights, "*.safetensors", *_BESIDE])


def _snapshot(name: str, repository: str, revision: str, patterns: Sequence[str]) -> Path:
    """The folder in huggingface_hub's cache with the files of a repository that match the patterns."""
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise CheckpointError(
            f"{HUB}{name} needs huggingface_hub; pip install huggingface_hub, or give a local folder"
        ) from error
    try:
        folder = huggingface_hub.snapshot_download(
            repository, revision=revision or None, allow_patterns=list(patterns)
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, *fetching_errors()) as error:
        again = "; what came is kept, give the same command again" if "timed out" in reason(error) else ""
        raise CheckpointError(f"{HUB}{name} cannot be fetched: {reason(error)}{again}") from error
    return as_path(folder)


def _from_url(url: str, weights: Sequence[str], folder: Path) -> Path:
    """Copies a remote checkpoint into `folder`; returns its weights file there."""
    files, root = open_url(url)
    names: Sequence[str] = weights
    if root.endswith((".pt", ".safetensors")):
        root, _, name = root.rpartition("/")
        names = (name,)
    found = next((name for name in names if fetch(files, f"{root}/{name}", folder / name, url)), None)
    if found is None:
        raise CheckpointError(f"{url} holds no weights; expected one of {', '.join(names)}")
    shards = shard_names(folder / found) if found.endswith(".index.json") else []
    missing = [shard for shard in shards if not fetch(files, f"{root}/{shard}", folder / shard, url)]
    if missing:
        raise CheckpointError(f"{url} lacks the shard {missing[0]}")
    for name in _BESIDE:
        fetch(files, f"{root}/{name}", folder / name, url)
    return folder / found


def _folders_above(source: str) -> Iterator[str]:
    """The folders in which a remote file lies, the innermost first, as far as its host or bucket."""
    parts = source.split("/")
    outermost = 3 if "://" in source else 1
    for length in range(len(parts) - 1, max(outermost, len(parts) - LEVELS) - 1, -1):
        yield "/".join(parts[:length])


def _file_from_hub(name: str, beside: str) -> Path:
    """The file `owner/name[@revision]/path` in huggingface_hub's cache, with what is to be beside it."""
    parts = name.split("/", 2)
    if len(parts) < 3 or not parts[2]:
        raise CheckpointError(f"{HUB}{name} names no file; write {HUB}owner/name[@revision]/path/to/file")
    repository, _, revision = "/".join(parts[:2]).partition("@")
    above = list(PurePosixPath(parts[2]).parents)[:LEVELS]
    wanted = [parts[2], *(str(folder / beside) for folder in above)]
    return _snapshot(name, repository, revision, wanted) / parts[2]

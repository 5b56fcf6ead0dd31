"""The folder of this machine that a run's data lies in: its workdir, unless that is in a bucket."""

import hashlib
import os
from pathlib import Path

from circuits_jax.data.corpus import IMPORTED
from circuits_jax.data.tokenizers.tinypython import ENCODER, MERGES
from circuits_jax.storage.files import write_aside
from circuits_jax.storage.paths import is_remote

TOKENIZER_FILES = ("tokenizer.model", ENCODER, MERGES, IMPORTED)


def local_folder(workdir: Path) -> Path:
    """`workdir`, or a folder of the user's cache that stands for one in a bucket, with its tokenizer's files.

    The corpus must be local because it is memory-mapped; a machine that lacks it rebuilds it.
    """
    if not is_remote(workdir):
        return workdir
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "circuits_jax" / hashlib.sha256(str(workdir).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    _copy_missing(workdir, folder)
    return folder


def keep_tokenizer(folder: Path, workdir: Path) -> None:
    """Copies the tokenizer's files from `local_folder(workdir)` to the bucket, if they are not there yet."""
    if is_remote(workdir):
        _copy_missing(folder, workdir)


def _copy_missing(source: Path, target: Path) -> None:
    for name in TOKENIZER_FILES:
        if (source / name).exists() and not (target / name).exists():
            with write_aside(target / name) as file:
                file.write((source / name).read_bytes())

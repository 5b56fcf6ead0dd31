"""Folders of this machine that stand for those of a bucket: a run's data is mapped, and so must be local."""

import hashlib
from pathlib import Path

from circuits_jax.data.corpus import IMPORTED
from circuits_jax.data.store import MANIFEST, appear
from circuits_jax.data.tokenizers.folder import TOKENIZER_FILES
from circuits_jax.storage.buckets import BucketPath
from circuits_jax.storage.cache import cache_folder
from circuits_jax.storage.files import aside_of, write_aside
from circuits_jax.storage.paths import is_remote

# Those of a run's tokenizer, and the note of where an imported one came from.
RUN_TOKENIZER_FILES = (*TOKENIZER_FILES, IMPORTED)


def local_folder(workdir: Path) -> Path:
    """`workdir`, or the folder that stands for one in a bucket, with its tokenizer's files."""
    folder = stand_in(workdir)
    if is_remote(workdir):
        folder.mkdir(parents=True, exist_ok=True)
        _copy_missing(workdir, folder)
    return folder


def stand_in(folder: Path) -> Path:
    """`folder`, or the folder of the user's cache that stands for one in a bucket.

    Raises:
      UserError: for one in a bucket, if no cache can be written.
    """
    if not is_remote(folder):
        return folder
    return cache_folder() / hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def keep_tokenizer(folder: Path, workdir: Path) -> None:
    """Copies the tokenizer's files from `local_folder(workdir)` to the bucket, if they are not there yet."""
    if is_remote(workdir):
        _copy_missing(folder, workdir)


def fetch_corpus(place: Path, name: str, here: Path) -> Path | None:
    """The corpus `name` of `place` as a local folder; None if `place` has none.

    Args:
      place: A folder of corpora, on disk or in a bucket.
      name: The corpus' hash.
      here: The local folder that stands for `place`; `place` itself if that is on disk.
    """
    folder = here / name
    if (folder / MANIFEST).exists():
        return folder
    if not isinstance(place, BucketPath) or not (place / name / MANIFEST).exists():
        return None
    aside = aside_of(folder)
    (place / name).download(aside)
    appear(aside, folder)
    return folder


def publish_corpus(folder: Path, place: Path) -> None:
    """Copies a corpus' folder to the bucket that `place` is in, if it is in one and has it not."""
    if isinstance(place, BucketPath) and not (place / folder.name / MANIFEST).exists():
        files = [path for path in folder.iterdir() if path.name != MANIFEST]
        for path in (*files, folder / MANIFEST):  # the last one says that all are there
            (place / folder.name / path.name).put(path)


def _copy_missing(source: Path, target: Path) -> None:
    for name in RUN_TOKENIZER_FILES:
        if (source / name).exists() and not (target / name).exists():
            with write_aside(target / name) as file:
                file.write((source / name).read_bytes())

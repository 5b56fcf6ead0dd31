"""A run's own corpus: a folder of packed windows and their tokenizer, called by its hash.

    HASH/corpus.json         what the others hold, their digests, and what they were made of
    HASH/train.npy           windows of the training split (`windows.Windows`)
    HASH/validation.npy
    HASH/tokenizer.model     or encoder.json and vocab.bpe

It lies in the workdir's `data/`, or in a folder that several runs share (`data.store`).  Whatever reads it
needs no source.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

from circuits_jax.data.tokenizers.bpe import load_tokenizer
from circuits_jax.data.tokenizers.folder import TOKENIZER_FILES, save_released_tokenizer
from circuits_jax.data.windows import Windows, map_tokens
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.storage.errors import CorpusError, UserError
from circuits_jax.storage.filenames import TOKENIZER
from circuits_jax.storage.files import aside_of, read_json_if_any, write_json
from circuits_jax.storage.lfs import refuse_pointer_file
from circuits_jax.storage.paths import exists, is_folder

FORMAT, VERSION, MANIFEST = "circuits_jax.corpus", 1, "corpus.json"
SPLITS = ("train", "validation")


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Everything training needs of the data.

    Attributes:
      tokenizer: Trained on the training split.
      train: Windows of the training split, with any generated programs mixed in.
      validation: Windows of the validation split, real code only.
      files: Files of both splits.
      skipped: Files left out because they could not be read or are not UTF-8.
      bytes: Bytes of both splits.
      tokens: Tokens of both splits, end-of-text included, generated programs not.
      hash: Of windows and tokenizer; the name of the folder that holds them.
      content: Hash of the documents, wherever they lay; "" where it is not known.
    """

    tokenizer: Tokenizer
    train: Windows
    validation: Windows
    files: int
    skipped: int
    bytes: int
    tokens: int
    hash: str = ""
    content: str = ""


def windows_file(split: str) -> str:
    """The name of the file of a split."""
    return f"{split}.npy"


def keep(
    scratch: Path,
    place: Path,
    tokenizer: Tokenizer,
    counts: Mapping[str, Mapping[str, int]],
    facts: Mapping[str, Any],
) -> Path:
    """Makes a corpus of the windows in `scratch`, and moves it to where it belongs.

    Args:
      scratch: A folder with the windows of every split and nothing else; it is gone afterwards.
      place: The folder that gets the corpus' folder.
      tokenizer: Of the windows.
      counts: Of every split (`Windows.counts`).
      facts: "files", "skipped", "bytes", "content", and "made_of", by which `look_up` finds it again.

    Returns:
      The corpus' folder; one that is there already with the same windows and tokenizer is kept as it is.
    """
    save_released_tokenizer(tokenizer, scratch)
    digests = {path.name: _digest(path) for path in sorted(scratch.iterdir())}
    windows = [digests[windows_file(split)] for split in SPLITS]
    identity = json.dumps([FORMAT, VERSION, tokenizer.hash, *windows])
    name = hashlib.sha256(identity.encode()).hexdigest()[:16]
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "hash": name,
        "tokenizer": tokenizer.hash,
        "counts": {split: dict(counts[split]) for split in SPLITS},
        **facts,
        "sha256": digests,
    }
    write_json(scratch / MANIFEST, manifest)
    folder = place / name
    if _is_whole(folder):
        shutil.rmtree(scratch)
    else:
        shutil.rmtree(folder, ignore_errors=True)
        place.mkdir(parents=True, exist_ok=True)
        _move(scratch, folder)
    return folder


def read(folder: Path) -> Corpus:
    """The corpus in a folder, whose every byte is checked.

    Raises:
      CorpusError: if it is damaged, or of a version that is not known.
      UserError: if one of its files is a Git LFS pointer.
    """
    manifest = read_json_if_any(folder / MANIFEST)
    if not manifest:
        raise CorpusError(f"{folder} holds no corpus that can be read (no whole {MANIFEST}); {_WAY_OUT}")
    if (manifest.get("format"), manifest.get("version")) != (FORMAT, VERSION):
        raise CorpusError(f"{folder} is no corpus of version {VERSION}; use the release that made it")
    try:
        for name, digest in manifest["sha256"].items():
            if _digest(folder / PurePath(name).name) != digest:
                refuse_pointer_file(folder / PurePath(name).name, CorpusError)
                raise CorpusError(f"{folder / name} was altered or cut short; {_WAY_OUT}")
        splits = {
            split: Windows(map_tokens(folder / windows_file(split)), manifest["counts"][split])
            for split in SPLITS
        }
        return Corpus(
            tokenizer=load_tokenizer(folder / TOKENIZER),
            **splits,
            files=manifest["files"],
            skipped=manifest["skipped"],
            bytes=manifest["bytes"],
            tokens=sum(manifest["counts"][split]["tokens"] for split in SPLITS),
            hash=manifest["hash"],
            content=manifest["content"],
        )
    except CorpusError:
        raise
    except OSError as error:
        where = error.filename or folder
        raise CorpusError(f"{where} cannot be read ({error.strerror or error}); {_WAY_OUT}") from error
    except (EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorpusError(f"{folder} is damaged ({error}); {_WAY_OUT}") from error


_WAY_OUT = "copy the folder anew from where the run was made, or from another copy of it"


def look_up(made_of: Mapping[str, Any], place: Path) -> Path | None:
    """The corpus in `place` that was made of the same, if there is one."""
    wanted = json.loads(json.dumps(made_of))
    for path in sorted(place.glob(f"*/{MANIFEST}")) if is_folder(place) else ():
        if read_json_if_any(path).get("made_of") == wanted:
            return path.parent
    return None


def find(name: str, places: Iterable[Path]) -> Path | None:
    """The folder of the corpus `name` in the first of several places that has it."""
    return next((place / name for place in places if exists(place / name / MANIFEST)), None)


def link(folder: Path, place: Path) -> None:
    """Puts a corpus' folder into another place too, on the same disk without taking room for it twice."""
    if (place / folder.name / MANIFEST).exists():
        return
    aside = aside_of(place / folder.name)
    aside.mkdir(parents=True)
    for path in folder.iterdir():
        try:
            os.link(path, aside / path.name)
        except OSError:  # another disk, or one that has no links
            shutil.copyfile(path, aside / path.name)
    appear(aside, place / folder.name)


def appear(aside: Path, folder: Path) -> None:
    """Makes `folder` of a whole corpus beside it; one that another run was faster to put there stays.

    Raises:
      OSError: if it cannot be renamed and no other is there.
    """
    try:
        os.replace(aside, folder)
    except OSError:
        shutil.rmtree(aside)
        if not (folder / MANIFEST).exists():
            raise


def copy_tokenizer(folder: Path, target: Path) -> None:
    """Puts a corpus' tokenizer into another folder."""
    for name in TOKENIZER_FILES:
        if (folder / name).exists():
            shutil.copyfile(folder / name, target / name)


def _is_whole(folder: Path) -> bool:
    if not (folder / MANIFEST).exists():
        return False
    try:
        read(folder)
    except UserError:
        return False
    return True


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _move(scratch: Path, folder: Path) -> None:
    """Moves a folder; where another disk makes that a copy, the whole appears at once all the same."""
    with contextlib.suppress(OSError):
        os.replace(scratch, folder)
        return
    aside = aside_of(folder)
    shutil.copytree(scratch, aside)
    appear(aside, folder)
    shutil.rmtree(scratch)

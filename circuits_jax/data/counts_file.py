"""The counts behind a bigram table that is not trained, as one file of a workdir.

An .npz archive of integers: `sizes`, `columns` and `counts` of `BigramCounts`, each of the smallest type that
holds it, and `about`, JSON that says which tokenizer, corpus and prior the table is of.  The table itself is
some fifty times as large, and follows from them.
"""

import dataclasses
import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from circuits_jax.data.bigram import BigramCounts
from circuits_jax.storage.errors import CheckpointError
from circuits_jax.storage.files import read_bytes, write_aside

FORMAT, VERSION = "circuits_jax.bigram_counts", 1
ANEW = "move it away, and it is counted anew from the run's corpus"


@dataclasses.dataclass(frozen=True)
class Origin:
    """What counts are of.

    Attributes:
      tokenizer, corpus: Hashes.
      prior: Of the table, in tokens.
    """

    tokenizer: str
    corpus: str
    prior: float


def save_counts(path: Path, counts: BigramCounts, origin: Origin) -> None:
    """Writes the file, whole or not at all."""
    about = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(origin)}
    with write_aside(path) as file:
        np.savez_compressed(
            file,
            about=np.array(json.dumps(about)),
            sizes=_small(counts.sizes),
            columns=_small(counts.columns),
            counts=_small(counts.counts),
        )


def load_counts(path: Path, origin: Origin, vocab_size: int, way_out: str = ANEW) -> BigramCounts:
    """Reads what `save_counts` wrote, for the run or model that it is of.

    Args:
      path: The file.
      origin: What the counts must be of.
      vocab_size: Of the model.
      way_out: What an error tells to do where the file is of no use.

    Raises:
      CheckpointError: if the file is missing or damaged, or of another tokenizer, corpus or prior.
    """
    there, counts = read_counts(path, way_out)
    for name in ("tokenizer", "corpus", "prior"):
        theirs, ours = getattr(there, name), getattr(origin, name)
        if theirs != ours:
            raise CheckpointError(
                f"{path} holds counts of another {name} ({_short(theirs)}) than the run's ({_short(ours)}); "
                f"put back the run's own file, or {way_out}"
            )
    if not _fit(counts, vocab_size):
        raise CheckpointError(f"{path} holds counts that do not fit a vocabulary of {vocab_size}; {way_out}")
    return BigramCounts(*(array.astype(np.int64) for array in vars(counts).values()))


def read_counts(path: Path, way_out: str = ANEW) -> tuple[Origin, BigramCounts]:
    """What the counts in a file are of, and the counts as they are stored, whatever they fit.

    Raises:
      CheckpointError: if the file is missing or damaged; `way_out` tells what to do.
    """
    content = read_bytes(path)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            about: dict[str, Any] = json.loads(str(arrays["about"]))
            counts = BigramCounts(arrays["sizes"], arrays["columns"], arrays["counts"])
        there = Origin(*(about[field.name] for field in dataclasses.fields(Origin)))
        if (about["format"], about["version"]) != (FORMAT, VERSION):
            raise ValueError(f"it is of format {about['format']!r}, version {about['version']!r}")
    except (OSError, EOFError, ValueError, LookupError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(
            f"{path} holds no bigram counts that can be read ({error}); {way_out}"
        ) from error
    return there, counts


def _small(array: np.ndarray) -> np.ndarray:
    """`array`, of integers from 0 on, in the smallest type that holds it."""
    return array.astype(np.min_scalar_type(int(array.max(initial=0))))


def _fit(counts: BigramCounts, vocab_size: int) -> bool:
    """Whether counts are those of some windows of such a vocabulary."""
    sizes, columns, found = counts.sizes, counts.columns, counts.counts
    whole = all(array.ndim == 1 and array.dtype.kind == "u" for array in (sizes, columns, found))
    if not whole or len(sizes) != vocab_size or not sizes.sum() == len(columns) == len(found):
        return False
    rows = np.repeat(np.arange(vocab_size), sizes)
    places = rows * vocab_size + columns
    return bool(np.all(columns < vocab_size) and np.all(np.diff(places) > 0) and np.all(found > 0))


def _short(value: object) -> str:
    return str(value)[:12]

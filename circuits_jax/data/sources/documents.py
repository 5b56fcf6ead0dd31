"""A corpus as a TFDS builder, whatever its documents come from; without TensorFlow and without a network."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from circuits_jax.config import DataConfig
from circuits_jax.data.sources.left_out import (
    DEAD_LINK,
    DUPLICATE,
    NO_TEXT,
    NOT_A_FILE,
    NOT_UTF8,
    POINTER,
    UNREADABLE,
    LeftOut,
    Tally,
)
from circuits_jax.data.sources.ordered import OrderedBuilder, Spool, prepare_quietly
from circuits_jax.data.store import SPLITS
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.progress import ProgressBar

# (name, UTF-8) of each document, or why there is none, always in the same order.
Read = Callable[[], Iterator[tuple[str, bytes | LeftOut]]]
# Reasons for which something that was to be a document is none.
LOST_DOCUMENTS = (NOT_UTF8, UNREADABLE, NOT_A_FILE, DEAD_LINK, POINTER, NO_TEXT)


@dataclasses.dataclass(eq=False, kw_only=True)
class DocumentsConfig(tfds.core.BuilderConfig):
    """One corpus; `name` is a hash of all that decides its contents, so that no other is ever reused.

    Attributes:
      read: Its documents; names differ from each other and are printable.
      what: What they are, for messages.
      validation_fraction: Share of documents, by content hash, held out for validation.
      deduplicate: Whether a document equal to an earlier one is left out.
    """

    read: Read = lambda: iter(())
    what: str = "no documents"
    validation_fraction: float = 0.05
    deduplicate: bool = False


def documents_config(identity: list[Any], read: Read, what: str, config: DataConfig) -> DocumentsConfig:
    """The corpus of `read`, told from others by `identity` (JSON values)."""
    name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    return DocumentsConfig(
        name=name,
        read=read,
        what=what,
        validation_fraction=config.validation_fraction,
        deduplicate=config.deduplicate,
    )


class Documents(OrderedBuilder):
    """One example for each document.

    Features: `text` (exactly the document's UTF-8), `path` (its name), `sha256`. Splits `train` and
    `validation`, by content hash: equal documents are never in both. `info.metadata`: `files` and `bytes`
    kept, `split_bytes` of each split, `skipped` documents that could not be read or decoded, `duplicates`
    left out, `left_out` (`Tally.report`), and `content`, a hash of all names, contents and splits, which is
    the same wherever the documents lie.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Documents of a corpus.",
            features=self._features(),
            metadata=tfds.core.MetadataDict(),
        )

    def _split_names(self) -> tuple[str, ...]:
        return SPLITS

    def _documents(self, spools: dict[str, Spool]) -> None:
        corpus: DocumentsConfig = self.builder_config
        tally, content, sizes = Tally(), hashlib.sha256(), dict.fromkeys(SPLITS, 0)
        places = (1.0, 0.0)  # the least and the greatest of a document
        # Little is read in a moment, and then nothing need be said.
        with ProgressBar(desc="reading", unit="B", unit_scale=True, delay=2) as bar:
            for name, digest, data in _kept(corpus, tally):
                places = min(places[0], place_of(digest)), max(places[1], place_of(digest))
                split = split_of(digest, corpus.validation_fraction)
                content.update(_line(name, digest, split))
                spools[split].add(name, data)
                sizes[split] += len(data)
                bar.update(len(data))
        self._check_splits({split: len(spool) for split, spool in spools.items()}, places)
        self.info.metadata.update(
            files=sum(map(len, spools.values())),
            content=content.hexdigest(),
            skipped=tally.count(*LOST_DOCUMENTS),
            duplicates=tally.count(DUPLICATE),
            bytes=sum(sizes.values()),
            split_bytes=sizes,
            left_out=tally.report(),
        )

    def _check_splits(self, counts: dict[str, int], places: tuple[float, float]) -> None:
        corpus, kept = self.builder_config, sum(counts[split] for split in SPLITS)
        if not kept:
            raise ConfigError(f"none of {corpus.what} is text in UTF-8; name others")
        empty = next((split for split in SPLITS if not counts[split]), None)
        if empty is None:
            return
        least, greatest = places
        if least == greatest:
            raise ConfigError(
                f"{corpus.what}: there is one document{' only' if kept == 1 else ', again and again'}, and a "
                "document is either trained on or validated with; give at least two different ones, such as "
                "the file in two parts"
            )
        raise ConfigError(
            f"the {empty} split is empty: with data.validation_fraction {corpus.validation_fraction} none of "
            f"the {kept} documents falls into it; set data.validation_fraction="
            f"{_between(least, greatest)}, or add files to data.roots"
        )


def build(config: DocumentsConfig, data_dir: Path) -> Documents:
    """The corpus of `config`, read now or found ready under `data_dir`.

    Raises:
      ConfigError: if there is nothing in it that can be used.
    """
    builder = Documents(data_dir=data_dir, config=config)
    prepare_quietly(builder)
    return builder


def split_of(digest: str, validation_fraction: float) -> str:
    """The split of a document with this hex digest; it keeps its split whatever else the corpus holds."""
    return "validation" if int(digest[:16], 16) < validation_fraction * 2**64 else "train"


def place_of(digest: str) -> float:
    """Where between 0 and 1 a document with this hex digest stands: for validation, if below the fraction."""
    return int(digest[:16], 16) / 2**64


def _between(least: float, greatest: float) -> float:
    """A short number above `least` and not above `greatest`, near the former."""
    short = (math.ceil(least * 10**digits) / 10**digits for digits in range(2, 18))
    return next((number for number in short if least < number <= greatest), greatest)


def as_utf8(value: Any) -> bytes | LeftOut:
    """A text as UTF-8, or why there is none."""
    try:
        if isinstance(value, bytes):
            value.decode()
            return value
        return value.encode() if isinstance(value, str) else LeftOut(NO_TEXT)
    except UnicodeError:  # lone surrogates, which JSON can hold, or other encodings
        return LeftOut(NOT_UTF8, len(value))


def content_of(corpus: DocumentsConfig) -> str:
    """What `Documents.info.metadata["content"]` is once the corpus is built: reads it and writes nothing."""
    content = hashlib.sha256()
    for name, digest, _ in _kept(corpus, Tally()):
        content.update(_line(name, digest, split_of(digest, corpus.validation_fraction)))
    return content.hexdigest()


def _line(name: str, digest: str, split: str) -> bytes:
    return f"{name}\n{digest}\n{split}\n".encode()


def _kept(corpus: DocumentsConfig, tally: Tally) -> Iterator[tuple[str, str, bytes]]:
    """(name, SHA-256 in hex, UTF-8) of each document that is part of the corpus; counts the others."""
    seen: set[bytes] = set()
    for name, data in corpus.read():
        if isinstance(data, LeftOut):
            tally.add(name, data)
            continue
        digest = hashlib.sha256(data)
        if corpus.deduplicate:
            if digest.digest() in seen:
                tally.add(name, LeftOut(DUPLICATE, len(data)))
                continue
            seen.add(digest.digest())
        yield name, digest.hexdigest(), data

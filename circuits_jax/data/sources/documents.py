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
from circuits_jax.storage.errors import ConfigError

SPLITS = ("train", "validation")
# (name, UTF-8) of each document, the same ones in the same order at each call; None for one that cannot be
# read.
Read = Callable[[], Iterator[tuple[str, bytes | None]]]


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


class Quiet:
    """Of a builder that does not announce itself on stdout: nothing is downloaded."""

    def _log_download_done(self) -> None:
        pass

    def _log_download_bytes(self) -> None:
        pass

    def _create_builder_config(self, builder_config: Any, *args: Any, **options: Any) -> Any:
        """The given configuration; tfds warns of any that no list of the class names."""
        del args, options
        return builder_config


class Documents(Quiet, tfds.core.GeneratorBasedBuilder):
    """One example for each document.

    Features: `text` (exactly the document's UTF-8), `path` (its name), `sha256`. Splits `train` and
      `validation`, by
    content hash: equal documents are never in both. `info.metadata`: `files` and `bytes` kept, `skipped`
    documents that could not be read or decoded, `duplicates` left out, and `content`, a hash of all names,
    contents and splits, which is the same wherever the documents lie.
    """

    VERSION = tfds.core.Version("1.0.0")
    # Nothing is downloaded. The inherited search for a list of URLs needs the package importlib_resources,
    # which tensorflow-datasets 4.9.10 does not install.
    url_infos = None

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Documents of a corpus.",
            features=tfds.features.FeaturesDict(
                {name: tfds.features.Text() for name in ("text", "path", "sha256")}
            ),
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        corpus: DocumentsConfig = self.builder_config
        counts, content = dict.fromkeys((*SPLITS, "skipped", "duplicates", "bytes"), 0), hashlib.sha256()
        places = (1.0, 0.0)  # the least and the greatest of a document
        for name, digest, data in self._kept(counts):
            places = min(places[0], place_of(digest)), max(places[1], place_of(digest))
            split = split_of(digest, corpus.validation_fraction)
            content.update(f"{name}\n{digest}\n{split}\n".encode())
            counts[split] += 1
            counts["bytes"] += len(data)
        self._check_splits(counts, places)
        self.info.metadata.update(
            files=sum(counts.pop(split) for split in SPLITS), content=content.hexdigest(), **counts
        )
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        content = hashlib.sha256()
        for name, digest, data in self._kept({"skipped": 0, "duplicates": 0}):
            belongs = split_of(digest, self.builder_config.validation_fraction)
            content.update(f"{name}\n{digest}\n{belongs}\n".encode())
            if belongs == split:
                yield name, {"text": data, "path": name, "sha256": digest}
        if content.hexdigest() != self.info.metadata["content"]:
            raise ConfigError(f"{self.builder_config.what} changed while the corpus was read; start again")

    def _kept(self, counts: dict[str, int]) -> Iterator[tuple[str, str, bytes]]:
        """(name, SHA-256 in hex, UTF-8) of each document that is part of the corpus; counts the others."""
        seen: set[bytes] = set()
        for name, data in self.builder_config.read():
            if data is None:
                counts["skipped"] += 1
                continue
            digest = hashlib.sha256(data)
            if self.builder_config.deduplicate:
                if digest.digest() in seen:
                    counts["duplicates"] += 1
                    continue
                seen.add(digest.digest())
            yield name, digest.hexdigest(), data

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


def prepare_quietly(builder: tfds.core.DatasetBuilder) -> None:
    """Builds a corpus without the progress bars of tfds, which are for downloads."""
    tfds.disable_progress_bar()
    builder.download_and_prepare(file_format="array_record")


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


def as_utf8(value: Any) -> bytes | None:
    """A text as UTF-8; None for what is no text."""
    try:
        if isinstance(value, bytes):
            value.decode()
            return value
        return value.encode() if isinstance(value, str) else None
    except UnicodeError:  # lone surrogates, which JSON can hold, or other encodings
        return None

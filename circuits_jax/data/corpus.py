"""From a DataConfig to a tokenizer and windows of tokens, reusing what an earlier call left behind."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from circuits_jax.config import DataConfig
from circuits_jax.data import sources
from circuits_jax.data import windows as packed
from circuits_jax.data.sources.documents import Documents
from circuits_jax.data.tokenizers import tinypython
from circuits_jax.data.tokenizers.bpe import CHARACTERS, load_tokenizer, train_sentencepiece
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.files import write_aside

# Texts of one threaded call to the tokenizer.
GROUP = 64
# Lies in a workdir whose tokenizer came with a model (`released.as_workdir`, `train.start_from`).
IMPORTED = "imported.json"


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
    """

    tokenizer: Tokenizer
    train: packed.Windows
    validation: packed.Windows
    files: int
    skipped: int
    bytes: int
    tokens: int


def prepare(
    config: DataConfig,
    vocab_size: int,
    n_ctx: int,
    workdir: Path,
    generated_texts: Sequence[str] | None = None,
) -> Corpus:
    """Reads the corpus, trains the tokenizer, packs the windows; a second call finds all of it ready.

    Args:
      config: What to read.
      vocab_size: Pieces of a tokenizer trained now.
      n_ctx: Tokens of a window, less one.
      workdir: Gets `tokenizer.model` and `data/`.
      generated_texts: Programs that make up `config.generated_share` of the training windows.

    Raises:
      ConfigError: for a corpus, vocabulary or window that cannot be used, or a workdir of another corpus.
    """
    workdir = Path(workdir)
    if config.generated_share and not generated_texts:
        raise ConfigError(
            f"data.generated_share is {config.generated_share}, but there are no generated programs; "
            "set it to 0"
        )
    builder = sources.build(config, workdir / "data")
    tokenizer = _tokenizer(builder, config, vocab_size, workdir)
    generated = (generated_texts or ()) if config.generated_share else ()
    packing = _Packing(builder, tokenizer, config, n_ctx, workdir / "data" / "windows")
    train, validation = packing.windows("train", generated), packing.windows("validation")
    metadata = builder.info.metadata
    return Corpus(
        tokenizer=tokenizer,
        train=train,
        validation=validation,
        files=metadata["files"],
        skipped=metadata["skipped"],
        bytes=metadata["bytes"],
        tokens=train.counts["tokens"] + validation.counts["tokens"],
    )


def read_texts(builder: Documents, split: str) -> Iterator[str]:
    """The texts of a split, in the builder's order, which is fixed."""
    source = builder.as_data_source(split)
    return (source[index]["text"].decode() for index in range(len(source)))


def _tokenizer(builder: Documents, config: DataConfig, vocab_size: int, workdir: Path) -> Tokenizer:
    """Loads the workdir's tokenizer, which the user may have put there, or trains it.

    A tokenizer that came with an imported model may have fewer tokens than the model.
    """
    path, record = workdir / "tokenizer.model", workdir / "data" / "tokenizer.json"
    made_of = {
        "corpus": builder.info.metadata["content"],
        "vocab_size": vocab_size,
        "symbols": list(config.symbols),
        "characters": config.tokenizer_characters,
    }
    brought = tinypython.lies_in(workdir) or (path.exists() and (workdir / IMPORTED).exists())
    if not path.exists() and not brought:
        tokenizer = train_sentencepiece(
            read_texts(builder, "train"), vocab_size, config.symbols, config.tokenizer_characters
        )
        with write_aside(record) as file:
            file.write(json.dumps({"tokenizer": tokenizer.hash, "made_of": made_of}).encode())
        tokenizer.save(path)
        return tokenizer
    tokenizer = load_tokenizer(path)
    if tokenizer.vocab_size > vocab_size or (tokenizer.vocab_size < vocab_size and not brought):
        raise ConfigError(
            f"the tokenizer {path} has {tokenizer.vocab_size} pieces, but model.vocab_size is {vocab_size}; "
            "change model.vocab_size or use another workdir"
        )
    found = _read_json(record)
    earlier = {"characters": CHARACTERS} | found.get("made_of", {})
    if found.get("tokenizer") == tokenizer.hash and earlier != made_of:
        raise ConfigError(
            f"the tokenizer {path} was trained on another corpus or with other data.symbols; "
            "use another workdir, or the corpus and symbols of this one"
        )
    return tokenizer


@dataclasses.dataclass(frozen=True)
class _Packing:
    """How the windows of one corpus are made, and where they lie."""

    builder: Documents
    tokenizer: Tokenizer
    config: DataConfig
    n_ctx: int
    folder: Path

    def windows(self, split: str, generated_texts: Sequence[str] = ()) -> packed.Windows:
        """Maps the windows of a split, encoding and packing them first if they are not there."""
        builder, tokenizer, config, n_ctx = self.builder, self.tokenizer, self.config, self.n_ctx
        identity = {
            "format": 1,
            "corpus": builder.info.metadata["content"],
            "tokenizer": tokenizer.hash,
            "n_ctx": n_ctx,
            "seed": config.seed,
            "generated": [hashlib.sha256(text.encode()).hexdigest() for text in generated_texts],
            "share": config.generated_share if generated_texts else 0,
        }
        path = self.folder / packed.windows_name(split, identity)
        if found := packed.load_windows(path):
            return found
        source = builder.as_data_source(split)
        size = sum(len(example["text"]) for example in source)
        texts = (source[index]["text"].decode() for index in _order(len(source), config.seed))
        tokens, windows = _pack(tokenizer, texts, size, split, n_ctx)
        counts = {
            "files": len(source),
            "bytes": size,
            "tokens": tokens,
            "generated": 0,
            "generated_distinct": 0,
        }
        if generated_texts:
            size = sum(len(text.encode()) for text in generated_texts)
            texts = (generated_texts[index] for index in _order(len(generated_texts), config.seed))
            _, generated = _pack(tokenizer, texts, size, "generated", n_ctx)
            real, windows = len(windows), packed.mix(windows, generated, config.generated_share)
            added = len(windows) - real
            counts |= {"generated": added, "generated_distinct": min(added, len(generated))}
        packed.save_windows(path, packed.Windows(windows, counts))
        return packed.load_windows(path) or packed.Windows(windows, counts)


def _pack(
    tokenizer: Tokenizer, texts: Iterable[str], size: int, split: str, n_ctx: int
) -> tuple[int, np.ndarray]:
    """Encodes texts, `size` bytes in all, with a progress bar, and packs them.

    Returns:
      The number of tokens, end-of-text included, and the windows, int32 [N, n_ctx + 1].
    """
    documents: list[np.ndarray] = []
    texts = iter(texts)
    with tqdm(total=size, unit="B", unit_scale=True, desc=f"tokenizing {split}") as progress:
        while group := list(itertools.islice(texts, GROUP)):
            documents += [np.asarray(ids, np.int32) for ids in tokenizer.encode_batch(group)]
            progress.update(sum(len(text.encode()) for text in group))
    tokens = sum(len(document) + 1 for document in documents if len(document))
    windows = packed.pack(documents, tokenizer.eot, n_ctx)
    packed.check_windows(windows, split, n_ctx, tokens)
    return tokens, windows


def _order(count: int, seed: int) -> list[int]:
    """A permutation of range(count) that is the same with every version of numpy."""
    return sorted(range(count), key=lambda index: hashlib.sha256(f"{seed}/{index}".encode()).digest())


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, or an empty one if there is none that can be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

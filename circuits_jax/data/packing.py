"""Texts to tokens to a file of windows, in memory that does not grow with the texts."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from circuits_jax.data.windows import WindowsWriter, check_windows, map_tokens, write_windows
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.storage.progress import ProgressBar

# Bytes of text in one threaded call to the tokenizer, whose tokens take some ten times that as Python lists.
_GROUP = 2**19


class Texts(NamedTuple):
    """Texts to be packed.

    Attributes:
      what: Name of their split.
      texts: Each of them, in order.
      size: Bytes of all together.
    """

    what: str
    texts: Iterable[str]
    size: int


def pack(
    path: Path,
    tokenizer: Tokenizer,
    texts: Texts,
    n_ctx: int,
    generated: Texts | None = None,
    share: float = 0,
) -> dict[str, int]:
    """Encodes texts, with a progress bar, into the file of windows `path`.

    Args:
      path: The file.
      tokenizer: Encodes.
      texts: What the windows hold.
      n_ctx: Tokens of a window, less one.
      generated: Programs whose windows are added.
      share: Of their windows among all.

    Returns:
      {"tokens": of `texts`, "generated": windows added, "generated_distinct": different ones among them}.

    Raises:
      ConfigError: if either do not make a single window.
    """
    counts = {"generated": 0, "generated_distinct": 0}
    with write_windows(path, tokenizer.eot, n_ctx, tokenizer.vocab_size) as writer:
        encode_into(writer, tokenizer, texts)
        check_windows(writer.count, texts.what, n_ctx, writer.tokens)
        if generated is not None:
            aside = path.with_name(f"generated-{path.name}")
            pack(aside, tokenizer, generated, n_ctx)
            added = map_tokens(aside)
            counts["generated"] = writer.mix(added, share)
            counts["generated_distinct"] = min(counts["generated"], len(added))
            aside.unlink()
    return {"tokens": writer.tokens, **counts}


def encode_into(writer: WindowsWriter, tokenizer: Tokenizer, texts: Texts) -> None:
    """Encodes texts on several threads."""
    with ProgressBar(total=texts.size, unit="B", unit_scale=True, desc=f"tokenizing {texts.what}") as bar:
        for group, length in _groups(texts.texts):
            writer.add(tokenizer.encode_batch(group))
            bar.update(length)


def shuffled(count: int, seed: int) -> np.ndarray:
    """A permutation of range(count), int64, that is the same with every version of numpy.

    By the first 16 bytes of a SHA-256, in which no two numbers have been seen to agree.
    """
    keys = np.empty((count, 2), ">u8")
    for number in range(count):
        digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
        keys[number] = np.frombuffer(digest, ">u8", 2)
    return np.lexsort((keys[:, 1], keys[:, 0]))


def _groups(texts: Iterable[str]) -> Iterator[tuple[Sequence[str], int]]:
    """Texts in turn, at least _GROUP bytes together but for the last ones, and their bytes."""
    group: list[str] = []
    length = 0
    for text in texts:
        group.append(text)
        length += len(text.encode())
        if length >= _GROUP:
            yield group, length
            group, length = [], 0
    if group:
        yield group, length

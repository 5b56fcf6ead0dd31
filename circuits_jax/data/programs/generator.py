"""Small, varied, valid generated programs, to be mixed into real code at a stated share.

The paper's own corpus was machine-written small programs.  Ours come from two grammars, with the words of
the real corpus: 1 is `programs.grammar`, 2 `programs.typed`.  No word of a task's `select` and `test` splits
is in them, and none of these splits' templates in programs of grammar 2, whose writer is told what to
withhold.
"""

import builtins
import collections
import dataclasses
import functools
import hashlib
import itertools
import json
import keyword
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import tensorflow_datasets as tfds

from circuits_jax.data.programs.grammar import Writer
from circuits_jax.data.programs.typed.writer import TypedWriter
from circuits_jax.data.programs.wording import ENGLISH
from circuits_jax.data.programs.words import UNSEEN_WORDS
from circuits_jax.data.sources.ordered import OrderedBuilder, Spool, prepare_quietly
from circuits_jax.storage.errors import ConfigError

MIN_WORDS = 50
MOST_WORDS = 2000
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_NAME = re.compile(r"[a-z]+(_[a-z]+)*")
_RESERVED = frozenset(keyword.kwlist) | frozenset(dir(builtins)) | {
    "none", "true", "false", "self", "func", "wrapper",
}  # fmt: skip


def corpus_words(texts: Iterable[str]) -> list[str]:
    """The MOST_WORDS most frequent lower-case identifiers of `texts`, most frequent first.

    Left out: keywords, builtins, words of more than 20 letters, and whatever has a held-out word as one
    of its parts.  Equally frequent ones are in alphabetical order.

    Raises:
      ConfigError: if fewer than MIN_WORDS are left.
    """
    counts: collections.Counter[str] = collections.Counter()
    for text in texts:
        counts.update(_IDENTIFIER.findall(text))
    words = [
        word
        for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if len(word) <= 20 and _NAME.fullmatch(word) and word not in _RESERVED and not _held_out(word)
    ][:MOST_WORDS]
    _check_words(words)
    return words


class Writes(Protocol):
    """What writes programs."""

    def program(self) -> str:
        """The next program."""


Grammar = Callable[[Sequence[str], int], Writes]
"""(words, seed) -> what writes programs with them."""


def find_grammar(number: int, withheld: Callable[[str], bool] | None) -> Grammar:
    """The grammar of a number (`DataConfig.grammar`).

    Args:
      number: 1 or 2.
      withheld: Whether a text holds what no program of grammar 2 may; grammar 1 does not ask.

    Raises:
      ValueError: for another number, or grammar 2 without `withheld`.
    """
    if number == 1:
        return Writer
    if number == 2 and withheld is not None:
        return functools.partial(TypedWriter, withheld=withheld)
    raise ValueError(f"there is no grammar {number}, or nobody said what it must withhold")


def generate_programs(
    words: Sequence[str],
    seed: int,
    count: int | None = None,
    count_bytes: int | None = None,
    grammar: Grammar = Writer,
) -> Iterator[str]:
    """Programs, the same for the same words, seed and grammar, until `count` or `count_bytes` is reached.

    Args:
      words: Lower-case identifiers, most frequent first (`corpus_words`).
      seed: Any integer.
      count: Number of programs.
      count_bytes: Number of bytes; the last program exceeds it.  Give exactly one of the two.
      grammar: Of `find_grammar`; grammar 1 by default.

    Raises:
      ConfigError: for too few words, held-out words, or neither or both of the counts.
    """
    _check_words(words)
    if (count is None) == (count_bytes is None):
        raise ConfigError("generated programs need exactly one of count and count_bytes")
    return _generate(grammar(words, seed), count, count_bytes)


def _generate(writer: Writes, count: int | None, count_bytes: int | None) -> Iterator[str]:
    size = 0
    for number in itertools.count():
        if number == count or (count_bytes is not None and size >= count_bytes):
            return
        program = writer.program()
        size += len(program)  # words are ASCII
        yield program


def _held_out(word: str) -> bool:
    return word in UNSEEN_WORDS or not UNSEEN_WORDS.isdisjoint(word.split("_"))


def _check_words(words: Sequence[str]) -> None:
    names = set(words) - ENGLISH
    if len(names) < MIN_WORDS:
        raise ConfigError(
            f"generated programs need {MIN_WORDS} different names from the corpus, it has {len(names)}; "
            "add files to data.roots or set data.generated_share to 0"
        )
    forbidden = [word for word in words if _held_out(word)]
    if forbidden:
        raise ConfigError(f"generated programs may not use held-out words: {', '.join(forbidden[:5])}")


@dataclasses.dataclass(eq=False, kw_only=True)
class GeneratedConfig(tfds.core.BuilderConfig):
    """One generated corpus; `name` is a hash of the words, the size, the seed and the grammar."""

    words: tuple[str, ...] = ()
    count_bytes: int = 0
    seed: int = 0
    grammar: Grammar = Writer


class GeneratedSource(OrderedBuilder):
    """Generated programs, one example each, in the split `train`.

    Features as `Documents`: `text`, `path`, `sha256`.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self, description="Small generated Python programs.", features=self._features()
        )

    def _split_names(self) -> tuple[str, ...]:
        return ("train",)

    def _documents(self, spools: dict[str, Spool]) -> None:
        corpus: GeneratedConfig = self.builder_config
        size, grammar = corpus.count_bytes, corpus.grammar
        programs = generate_programs(corpus.words, corpus.seed, count_bytes=size, grammar=grammar)
        for number, text in enumerate(programs):
            spools["train"].add(str(number), text.encode())


def build_generated(
    words: Sequence[str], count_bytes: int, seed: int, data_dir: Path, grammar: Grammar = Writer
) -> GeneratedSource:
    """The generated corpus, made now or found ready under `data_dir`.

    Raises:
      ConfigError: for too few words or held-out words.
    """
    _check_words(words)
    # The first programs stand for the grammar: another grammar is another corpus.
    sample = list(generate_programs(words, 0, count=200, grammar=grammar))
    identity = json.dumps([list(words), count_bytes, seed, sample])
    config = GeneratedConfig(
        name=hashlib.sha256(identity.encode()).hexdigest()[:16],
        words=tuple(words),
        count_bytes=count_bytes,
        seed=seed,
        grammar=grammar,
    )
    builder = GeneratedSource(data_dir=data_dir, config=config)
    prepare_quietly(builder)
    return builder

"""Contrast pairs: two prompts of equal token length whose right next tokens are each other's wrong ones.

A task is declared by skeletons (`tasks.template`) and built into pairs under a tokenizer by the rules of
docs/tasks.md, "Rules".
"""

import collections
import dataclasses
import hashlib
import numbers
import re
from collections.abc import Iterator, Mapping

import numpy as np

from circuits_jax.data.programs.words import SPLITS, WORDS
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.storage.errors import check_kind
from circuits_jax.storage.paths import names_a_folder
from circuits_jax.tasks.encoding import DroppedError, Encoded, encode_pair
from circuits_jax.tasks.splits import BEFORE, group_numbers, three_splits, three_word_lists
from circuits_jax.tasks.template import (
    Filled,
    TaskError,
    Template,
    fill,
    is_text,
    single_pieces,
)

_MIN_DRAWS = 64  # fewer draws say little about how many pairs a tokenizer loses
_STALE_DRAWS = 400  # draws in a row without a new pair: there are no more


@dataclasses.dataclass(frozen=True)
class Task:
    """What to ask, in text; the tokenizer decides the ids.

    Attributes:
      name: Short name, as on the command line.
      description: One line: what the model must know to answer.
      templates: Split -> its templates.  Without `select`, that is taken from `train`; `heldout`, as `test`
        was called, is read as such (`tasks.splits.three_splits`); the same holds of `words`.
      preference: Python allows both answers, real code prefers one.
      patterns: Regular expressions of the places in code where A's answer comes, and where B's does, or one
        of both where they look alike; `^` and `$` are those of a line.  By them `tasks.frequency` counts how
        often training text decides what the task asks.
      words: Split -> kind of slot -> words.
      python: Whether prompts are Python of the usual length: prompt + continuation must parse, and a prompt
        has MIN_TOKENS to MAX_TOKENS.  Otherwise only the context limits it.
      file: Where `load_task` read it, by which its circuits find it again; "" for others.
      digest: SHA-256 of that file, in hex; "" for others.
      seen: Prompts of pairs that are not drawn again; see `unlike`.
    """

    name: str
    description: str
    templates: Mapping[str, tuple[Template, ...]]
    preference: bool = False
    patterns: tuple[str, ...] = ()
    words: Mapping[str, Mapping[str, tuple[str, ...]]] = dataclasses.field(default_factory=lambda: WORDS)
    python: bool = True
    file: str = dataclasses.field(default="", compare=False)
    digest: str = dataclasses.field(default="", compare=False)
    seen: frozenset[frozenset[str]] = dataclasses.field(default=frozenset(), compare=False, repr=False)

    def __post_init__(self) -> None:
        if not is_text(self.name):
            raise TaskError(f"a task cannot be called {self.name!r}, which is not UTF-8; rename its file")
        if not names_a_folder(self.name):
            raise TaskError(f"a task cannot be called {self.name!r}: its circuit's folder has its name")
        for pattern in self.patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise TaskError(
                    f"task {self.name!r}: {pattern!r} is no regular expression: {error}"
                ) from error
        object.__setattr__(self, "templates", three_splits(self.name, self.templates))
        object.__setattr__(self, "words", three_word_lists(self.name, self.words))

    def unlike(self, *seen: "Pairs") -> "Task":
        """The same task, of which none of the pairs `seen` is drawn."""
        prompts = frozenset(frozenset(texts) for pairs in seen for texts in pairs.texts)
        return dataclasses.replace(self, seen=self.seen | prompts)


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Contrast pairs under one tokenizer; prompt A is index 0, prompt B index 1.

    Attributes:
      task, split: Where they come from.
      tokens: int32 [N, 2, T], right-padded with end-of-text.
      last: int32 [N], position of the last prompt token (the same in both prompts).
      answers: int32 [N, 2], right token of A and of B; each is the other's wrong one.
      texts: N times (prompt A, prompt B).
      survived: Share of the pairs drawn that the tokenizer's rules kept.
      continuations: N times the right continuation of A and of B, for display.
      template: int32 [N], which of the split's templates each was made from; by default all of one.
    """

    task: str
    split: str
    tokens: np.ndarray
    last: np.ndarray
    answers: np.ndarray
    texts: list[tuple[str, str]]
    survived: float
    continuations: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    template: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))

    def __post_init__(self) -> None:
        if not self.template.size:
            object.__setattr__(self, "template", np.zeros(len(self.last), np.int32))

    @property
    def digest(self) -> str:
        """SHA-256 of the prompts and answers, in hex."""
        found = hashlib.sha256()
        for array in (self.tokens, self.last, self.answers):
            found.update(repr(array.shape).encode() + np.ascontiguousarray(array, np.int32).tobytes())
        return found.hexdigest()


class _Losses:
    """The pairs that were dropped: how many broke which rule, and the first of each."""

    def __init__(self) -> None:
        self._count: collections.Counter[str] = collections.Counter()
        self._first: dict[str, DroppedError] = {}

    def add(self, error: DroppedError) -> None:
        self._count[error.rule] += 1
        self._first.setdefault(error.rule, error)

    @property
    def total(self) -> int:
        return self._count.total()

    def reasons(self) -> str:
        """The most frequent three, each with its first pair."""
        named = []
        for rule, number in self._count.most_common(3):
            example = self._first[rule].example
            named.append(f"{number} times {rule}" + (f", such as {example}" if example else ""))
        return "; ".join(named)

    def way_out(self) -> str:
        """Of the most frequent."""
        ((rule, _),) = self._count.most_common(1)
        return self._first[rule].way_out


def build_pairs(task: Task, tokenizer: Tokenizer, split: str, count: int, seed: int, n_ctx: int) -> Pairs:
    """Draws `count` different pairs: same task, split, seed and tokenizer hash, same pairs.

    Args:
      task: The task.
      tokenizer: Decides lengths, answers and which words are used.
      split: "train", "select" or "test".
      count: Number of pairs N, at least 1.
      seed: Any integer.
      n_ctx: Longest sequence of the model, in tokens.

    Raises:
      TaskError: for an unknown split, one without templates, fewer than `count` pairs, words that the
        tokenizer all splits, more than half of the pairs lost, or a prompt longer than `n_ctx`.
    """
    check_kind("the task", task, Task, "cj.TASKS[NAME], or cj.load_task(FILE)")
    if tokenizer is None:
        raise TaskError(f"pairs of task {task.name!r} need a tokenizer, and this model has none")
    for what, number in (("the number of pairs", count), ("the seed", seed), ("n_ctx", n_ctx)):
        check_kind(what, number, numbers.Integral, "a whole number")
    if split not in SPLITS:
        raise TaskError(f"split is {split!r}; choose one of {', '.join(SPLITS)}")
    if not task.templates[split]:
        raise TaskError(
            f"task {task.name!r} has no {split} pairs: one template cannot be for learning and for choosing; "
            f"give it two train templates (or lines of a JSONL file) or more, or some of split {split!r}"
        )
    if count < 1:
        raise TaskError(f"{count} pairs of task {task.name!r} were asked for; ask for 1 or more")
    kept: list[Encoded] = []
    dropped = _Losses()
    for texts in _draws(task, tokenizer, split, seed):
        try:
            pair = encode_pair(task.python, texts, tokenizer, n_ctx)
            if frozenset(pair.texts) not in task.seen:
                kept.append(pair)
        except DroppedError as error:
            dropped.add(error)
        drawn = len(kept) + dropped.total
        enough = drawn >= 2 * count or len(kept) >= count
        if enough and drawn >= _MIN_DRAWS:
            break
    survived = len(kept) / max(1, len(kept) + dropped.total)
    _check_survival(task, split, survived, dropped)
    if len(kept) < count:
        raise TaskError(
            f"task {task.name!r} has only {len(kept)} different {split} pairs under this tokenizer"
            f"{' that pruning has not seen' if task.seen else ''}, not {count}; ask for fewer "
            f"(prune.{split}_pairs, audit.pairs or --pairs) or give the task more "
            + ("templates or words" if task.python else "lines")
            + (f" ({dropped.reasons()})" if dropped.total else "")
        )
    return _pack(task.name, split, kept[:count], survived, tokenizer.eot, n_ctx)


def _check_survival(task: Task, split: str, survived: float, dropped: _Losses) -> None:
    """Raises TaskError if more than half of the pairs were lost, with the reasons, most frequent first."""
    if survived < 0.5:
        vocabulary = "use another tokenizer (a larger vocabulary, quotes as symbols) or leave it out"
        raise TaskError(
            f"task {task.name!r} loses {1 - survived:.0%} of its {split} pairs under this tokenizer "
            f"({dropped.reasons()}); {dropped.way_out() if task.file else vocabulary}"
        )


def _pack(name: str, split: str, kept: list[Encoded], survived: float, eot: int, n_ctx: int) -> Pairs:
    """Encoded pairs as arrays, right-padded with end-of-text."""
    lengths = np.array([len(pair.prompts[0]) for pair in kept], np.int32)
    longest = int(lengths.max())
    if longest > n_ctx:
        text = kept[int(lengths.argmax())].texts[0]
        raise TaskError(
            f"a prompt of task {name!r} has {longest} tokens, more than the context of {n_ctx} "
            f"(model.n_ctx): {text!r}; use a model with a longer context or leave the task out"
        )
    tokens = np.full((len(kept), 2, longest), eot, np.int32)
    for row, pair in enumerate(kept):
        tokens[row, :, : lengths[row]] = pair.prompts
    answers = np.array([pair.answers for pair in kept], np.int32)
    texts, continuations = [pair.texts for pair in kept], [pair.continuations for pair in kept]
    template = np.array([pair.template for pair in kept], np.int32)
    return Pairs(name, split, tokens, lengths - 1, answers, texts, survived, continuations, template)


def _draws(task: Task, tokenizer: Tokenizer, split: str, seed: int) -> Iterator[Filled]:
    """Different filled templates, every template equally often, until no new one turns up."""
    pool = {
        kind: words if kind == "d" else single_pieces(words, tokenizer)
        for kind, words in task.words[split].items()
    }
    templates = _usable_templates(task, split, pool)
    # By its old name, so that test pairs of users' files are those that they were before there was `select`.
    stream = BEFORE if split == "test" else split
    digest = hashlib.sha256(f"{task.name}/{stream}/{seed}/{tokenizer.hash}".encode()).digest()
    # RandomState, because numpy promises its stream for ever; Generator's may change.
    rng = np.random.RandomState(np.frombuffer(digest, np.uint32))
    seen: set[tuple[str, ...]] = set()
    stale = 0
    while stale < max(_STALE_DRAWS, 2 * len(templates)):
        for index in rng.permutation(len(templates)):
            template, number = templates[index]
            texts = dataclasses.replace(fill(template, pool, rng), template=number)
            key = texts.prompts + texts.continuations
            stale = stale + 1 if key in seen else 0
            if key not in seen:
                seen.add(key)
                yield texts


def _usable_templates(
    task: Task, split: str, pool: Mapping[str, tuple[str, ...]]
) -> list[tuple[Template, int]]:
    """Templates whose slots the kept words can fill, with the numbers of their groups.

    Raises:
      TaskError: if more than half cannot be used.
    """
    usable, lacking = [], collections.Counter[str]()
    templates = task.templates[split]
    for template, number in zip(templates, group_numbers(templates), strict=True):
        needs = collections.Counter(slot[0] for slot in template.slots())
        needs["w"] += template.padded
        unknown = sorted(set(needs) - set(pool))
        if unknown:
            raise TaskError(
                f"task {task.name!r} has slots of kind {', '.join(unknown)}; "
                f"its words have the kinds {', '.join(sorted(pool))}"
            )
        lacks = [kind for kind, needed in needs.items() if needed > len(pool[kind])]
        lacking.update(lacks)
        if not lacks:
            usable.append((template, number))
    if 2 * len(usable) < len(task.templates[split]):
        kept = ", ".join(f"{len(pool[kind])} of {len(task.words[split][kind])} {kind!r}" for kind in lacking)
        raise TaskError(
            f"task {task.name!r} cannot use more than half of its {split} templates: too few of its words "
            f"are single tokens under this tokenizer, with and without a leading space (kept: {kept}); "
            "use a larger vocabulary or leave the task out"
        )
    return usable

"""Contrast pairs: two prompts of equal token length whose right next tokens are each other's wrong ones.

A task is declared by skeletons (`tasks.template`) and built into pairs under a tokenizer by the rules of
docs/tasks.md, "Rules".
"""

import ast
import collections
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping

import numpy as np

from circuits_jax.data.programs.words import SPLITS, WORDS
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.tasks.template import (
    Filled,
    TaskError,
    Template,
    fill,
    is_text,
    single_pieces,
    with_padding,
)

MIN_TOKENS, MAX_TOKENS = 10, 120  # of a prompt of templates; pairs as they are may be of any length
_MIN_DRAWS = 64  # fewer draws say little about how many pairs a tokenizer loses
_SHOWN = 60  # characters of a prompt in a message
_STALE_DRAWS = 400  # draws in a row without a new pair: there are no more


@dataclasses.dataclass(frozen=True)
class Task:
    """What to ask, in text; the tokenizer decides the ids.

    Attributes:
      name: Short name, as on the command line.
      description: One line: what the model must know to answer.
      templates: Split -> its templates.
      preference: Python allows both answers, real code prefers one.
      words: Split -> kind of slot -> words.
      python: Whether prompts are Python of the usual length: prompt + continuation must parse, and a prompt
        has MIN_TOKENS to MAX_TOKENS.  Otherwise only the context limits it.
      file: Where `load_task` read it, by which its circuits find it again; "" for others.
      digest: SHA-256 of that file, in hex; "" for others.
    """

    name: str
    description: str
    templates: Mapping[str, tuple[Template, ...]]
    preference: bool = False
    words: Mapping[str, Mapping[str, tuple[str, ...]]] = dataclasses.field(default_factory=lambda: WORDS)
    python: bool = True
    file: str = dataclasses.field(default="", compare=False)
    digest: str = dataclasses.field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.name or self.name.startswith(".") or set(self.name) & set("/\\,\n\0"):
            raise TaskError(f"a task cannot be called {self.name!r}: its circuit's folder has its name")
        if not is_text(self.name):
            raise TaskError(f"a task cannot be called {self.name!r}, which is not UTF-8; rename its file")
        for split in SPLITS:
            if not self.templates.get(split):
                raise TaskError(f"task {self.name!r} has no {split} template; give both splits at least one")


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
    """

    task: str
    split: str
    tokens: np.ndarray
    last: np.ndarray
    answers: np.ndarray
    texts: list[tuple[str, str]]
    survived: float
    continuations: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    @property
    def digest(self) -> str:
        """SHA-256 of the prompts and answers, in hex."""
        found = hashlib.sha256()
        for array in (self.tokens, self.last, self.answers):
            found.update(repr(array.shape).encode() + np.ascontiguousarray(array, np.int32).tobytes())
        return found.hexdigest()


@dataclasses.dataclass(frozen=True)
class _Encoded:
    """One pair that passed: both prompts' ids (equally many), the two answers, the texts."""

    prompts: tuple[list[int], list[int]]
    answers: tuple[int, int]
    texts: tuple[str, str]
    continuations: tuple[str, str]


class _DroppedError(Exception):
    """A pair that breaks a rule.

    Attributes:
      rule: What is wrong, in words that are the same for all such pairs.
      example: What is wrong with this one.
      way_out: What its author can do.
    """

    def __init__(self, rule: str, way_out: str, example: str = ""):
        super().__init__(rule)
        self.rule, self.way_out, self.example = rule, way_out, example


class _Losses:
    """The pairs that were dropped: how many broke which rule, and the first of each."""

    def __init__(self) -> None:
        self._count: collections.Counter[str] = collections.Counter()
        self._first: dict[str, _DroppedError] = {}

    def add(self, error: _DroppedError) -> None:
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
      split: "train" or "heldout".
      count: Number of pairs N, at least 1.
      seed: Any integer.
      n_ctx: Longest sequence of the model, in tokens.

    Raises:
      TaskError: for an unknown split, fewer than `count` pairs, words that the tokenizer all splits, more
        than half of the pairs lost, or a prompt longer than `n_ctx`.
    """
    if split not in SPLITS:
        raise TaskError(f"split is {split!r}; choose one of {', '.join(SPLITS)}")
    if count < 1:
        raise TaskError(f"{count} pairs of task {task.name!r} were asked for; ask for 1 or more")
    kept: list[_Encoded] = []
    dropped = _Losses()
    for texts in _draws(task, tokenizer, split, seed):
        try:
            kept.append(_encode_pair(task, texts, tokenizer, n_ctx))
        except _DroppedError as error:
            dropped.add(error)
        drawn = len(kept) + dropped.total
        enough = drawn >= 2 * count or len(kept) >= count
        if enough and drawn >= _MIN_DRAWS:
            break
    survived = len(kept) / max(1, len(kept) + dropped.total)
    _check_survival(task, split, survived, dropped)
    if len(kept) < count:
        raise TaskError(
            f"task {task.name!r} has only {len(kept)} different {split} pairs under this tokenizer, "
            f"not {count}; ask for fewer (prune.{split}_pairs, audit.pairs or --pairs) or give the task more "
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


def _pack(name: str, split: str, kept: list[_Encoded], survived: float, eot: int, n_ctx: int) -> Pairs:
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
    return Pairs(name, split, tokens, lengths - 1, answers, texts, survived, continuations)


def _draws(task: Task, tokenizer: Tokenizer, split: str, seed: int) -> Iterator[Filled]:
    """Different filled templates, every template equally often, until no new one turns up."""
    pool = {
        kind: words if kind == "d" else single_pieces(words, tokenizer)
        for kind, words in task.words[split].items()
    }
    templates = _usable_templates(task, split, pool)
    digest = hashlib.sha256(f"{task.name}/{split}/{seed}/{tokenizer.hash}".encode()).digest()
    # RandomState, because numpy promises its stream for ever; Generator's may change.
    rng = np.random.RandomState(np.frombuffer(digest, np.uint32))
    seen: set[tuple[str, ...]] = set()
    stale = 0
    while stale < max(_STALE_DRAWS, 2 * len(templates)):
        for index in rng.permutation(len(templates)):
            texts = fill(templates[index], pool, rng)
            key = texts.prompts + texts.continuations
            stale = stale + 1 if key in seen else 0
            if key not in seen:
                seen.add(key)
                yield texts


def _usable_templates(task: Task, split: str, pool: Mapping[str, tuple[str, ...]]) -> list[Template]:
    """Templates whose slots the kept words can fill; raises TaskError if more than half cannot be used."""
    usable, lacking = [], collections.Counter[str]()
    for template in task.templates[split]:
        needs = collections.Counter(slot[0] for slot in template.slots())
        needs["w"] += template.padded
        unknown = sorted(set(needs) - set(pool))
        if unknown:
            raise TaskError(
                f"task {task.name!r} has slots of kind {', '.join(unknown)}; "
                f"its words have the kinds {', '.join(sorted(pool))}"
            )
        lacks = [kind for kind, number in needs.items() if number > len(pool[kind])]
        lacking.update(lacks)
        if not lacks:
            usable.append(template)
    if 2 * len(usable) < len(task.templates[split]):
        kept = ", ".join(f"{len(pool[kind])} of {len(task.words[split][kind])} {kind!r}" for kind in lacking)
        raise TaskError(
            f"task {task.name!r} cannot use more than half of its {split} templates: too few of its words "
            f"are single tokens under this tokenizer, with and without a leading space (kept: {kept}); "
            "use a larger vocabulary or leave the task out"
        )
    return usable


def _clipped(text: str) -> str:
    """The end of a text, which decides what comes next, in quotes."""
    return repr(text) if len(text) <= _SHOWN else f"...{text[-_SHOWN:]!r}"


def _equal_prompts(task: Task, texts: Filled, tokenizer: Tokenizer) -> tuple[str, str]:
    """Both prompts' texts, the shorter one's comment lengthened by one word a token."""
    plain = [with_padding(prompt, texts, 0) for prompt in texts.prompts]
    lengths = [len(tokenizer.encode(text)) for text in plain]
    extra = [max(lengths) - length for length in lengths]
    if any(extra) and not texts.padding:
        shown = " and ".join(
            f"{_clipped(text)} ({count} tokens)" for text, count in zip(plain, lengths, strict=True)
        )
        raise _DroppedError(
            "the prompts differ in length and have no $pad",
            "write both prompts of a pair in equally many tokens"
            + (", or put $pad into both" if task.python else ""),
            shown,
        )
    a, b = (with_padding(text, texts, more) for text, more in zip(texts.prompts, extra, strict=True))
    return a, b


def _encode_pair(task: Task, texts: Filled, tokenizer: Tokenizer, n_ctx: int) -> _Encoded:
    """Applies the rules (docs/tasks.md, "Rules") to one pair; raises _DroppedError naming the rule broken."""
    prompts = _equal_prompts(task, texts, tokenizer)
    whole = [prompt + after for prompt, after in zip(prompts, texts.continuations, strict=True)]
    if task.python and not all(map(_parses, whole)):
        raise _DroppedError(
            "prompt and continuation are not valid Python",
            "correct the templates, or give the task python=False",
            next(repr(text) for text in whole if not _parses(text)),
        )
    ids = [tokenizer.encode(prompt) for prompt in prompts]
    if len(ids[0]) != len(ids[1]):
        raise _DroppedError("padding could not make the prompts equally long", "write them equally long")
    length = len(ids[0])
    whole_ids = [tokenizer.encode(text) for text in whole]
    joined = [i for i in (0, 1) if whole_ids[i][:length] != ids[i]]
    if joined:
        prompt, after = prompts[joined[0]], texts.continuations[joined[0]]
        raise _DroppedError(
            "the prompt's tokens are not a prefix of prompt + continuation",
            "let the prompts end where a token ends: move their last characters into the answers, or the "
            "answers' first ones into the prompts",
            f"{_clipped(prompt)} before {after!r}",
        )
    rest_a, rest_b = whole_ids[0][length:], whole_ids[1][length:]
    # Tokens that both continuations begin with belong to the prompt: they decide nothing.
    shared = next((i for i, (a, b) in enumerate(zip(rest_a, rest_b, strict=False)) if a != b), None)
    if shared is None:
        raise _same_continuations(texts.continuations)
    length += shared
    a, b = whole_ids[0][:length], whole_ids[1][:length]
    if a == b:
        raise _DroppedError(
            "the two prompts are the same",
            "let the prompts differ in what decides the answer",
            _clipped(prompts[0]),
        )
    if a[-1:] != b[-1:]:
        raise _DroppedError(
            "the prompts do not end in the same token",
            "write the same after what differs in the prompts, so that their last token does not decide",
            " and ".join(map(_clipped, prompts)),
        )
    _check_length(task, length, n_ctx, prompts[0])
    answers = rest_a[shared], rest_b[shared]
    if not shared:
        return _Encoded((a, b), answers, prompts, texts.continuations)
    afters = tokenizer.decode(rest_a[shared:]), tokenizer.decode(rest_b[shared:])
    return _Encoded((a, b), answers, (tokenizer.decode(a), tokenizer.decode(b)), afters)


def _same_continuations(continuations: tuple[str, str]) -> _DroppedError:
    """Why two right continuations do not tell the prompts apart."""
    shorter, longer = sorted(continuations, key=len)
    if not shorter:
        return _DroppedError("a right continuation is empty", "say how both prompts go on")
    if shorter == longer:
        return _DroppedError(
            "the two right continuations do not differ",
            "give each prompt an answer of its own",
            repr(shorter),
        )
    return _DroppedError(
        "one right continuation begins with the other",
        "add to the shorter one what follows it, such as a line end or a bracket, so that the two differ",
        f"{shorter!r} and {longer!r}",
    )


def _check_length(task: Task, length: int, n_ctx: int, prompt: str) -> None:
    """Raises _DroppedError for a prompt of a length that the task's rules exclude."""
    if task.python and not MIN_TOKENS <= length <= MAX_TOKENS:
        raise _DroppedError(
            f"a prompt has fewer than {MIN_TOKENS} or more than {MAX_TOKENS} tokens",
            f"write templates of {MIN_TOKENS} to {MAX_TOKENS} tokens",
            f"{_clipped(prompt)} ({length} tokens)",
        )
    if not task.python and length > n_ctx:
        raise _DroppedError(
            f"a prompt has more tokens than the model's context of {n_ctx}",
            "shorten the prompts, or use a model with a longer context (model.n_ctx)",
            f"{_clipped(prompt)} ({length} tokens)",
        )


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # also a null byte, or deep nesting
        return False
    return True

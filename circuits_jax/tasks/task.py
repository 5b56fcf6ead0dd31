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
from circuits_jax.tasks.template import Filled, TaskError, Template, fill, single_pieces, with_padding

MIN_TOKENS, MAX_TOKENS = 10, 120
_MIN_DRAWS = 64  # fewer draws say little about how many pairs a tokenizer loses
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
      python: Whether prompt + continuation must parse; pairs that do not are dropped.
      file: Where `load_task` read it, by which its circuits find it again; "" for others.
    """

    name: str
    description: str
    templates: Mapping[str, tuple[Template, ...]]
    preference: bool = False
    words: Mapping[str, Mapping[str, tuple[str, ...]]] = dataclasses.field(default_factory=lambda: WORDS)
    python: bool = True
    file: str = dataclasses.field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.name or self.name.startswith(".") or set(self.name) & set("/\\,\n\0"):
            raise TaskError(f"a task cannot be called {self.name!r}: its circuit's folder has its name")
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
    """A pair that breaks a rule; the message names the rule."""


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
    dropped: collections.Counter[str] = collections.Counter()
    for texts in _draws(task, tokenizer, split, seed):
        try:
            kept.append(_encode_pair(task, texts, tokenizer))
        except _DroppedError as reason:
            dropped[str(reason)] += 1
        drawn = len(kept) + dropped.total()
        enough = drawn >= 2 * count or len(kept) >= count
        if enough and drawn >= _MIN_DRAWS:
            break
    survived = len(kept) / max(1, len(kept) + dropped.total())
    _check_survival(task, split, survived, dropped)
    if len(kept) < count:
        raise TaskError(
            f"task {task.name!r} has only {len(kept)} different {split} pairs under this tokenizer, "
            f"not {count}; ask for fewer (prune.{split}_pairs, audit.pairs or --pairs) or give the task more "
            "templates or words"
        )
    return _pack(task.name, split, kept[:count], survived, tokenizer.eot, n_ctx)


def _check_survival(task: Task, split: str, survived: float, dropped: collections.Counter[str]) -> None:
    """Raises TaskError if more than half of the pairs were lost, with the reasons, most frequent first."""
    if survived < 0.5:
        reasons = "; ".join(f"{number} times {reason}" for reason, number in dropped.most_common(3))
        raise TaskError(
            f"task {task.name!r} loses {1 - survived:.0%} of its {split} pairs under this tokenizer "
            f"({reasons}); use another tokenizer (a larger vocabulary, quotes as symbols) or leave it out"
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


def _equal_prompts(texts: Filled, tokenizer: Tokenizer) -> tuple[str, str]:
    """Both prompts' texts, the shorter one's comment lengthened by one word a token."""
    plain = [with_padding(prompt, texts, 0) for prompt in texts.prompts]
    lengths = [len(tokenizer.encode(text)) for text in plain]
    extra = [max(lengths) - length for length in lengths]
    if any(extra) and not texts.padding:
        raise _DroppedError("the prompts differ in length and have no $pad")
    a, b = (with_padding(text, texts, more) for text, more in zip(texts.prompts, extra, strict=True))
    return a, b


def _encode_pair(task: Task, texts: Filled, tokenizer: Tokenizer) -> _Encoded:
    """Applies the rules (docs/tasks.md, "Rules") to one pair; raises _DroppedError naming the rule broken."""
    prompts = _equal_prompts(texts, tokenizer)
    whole = [prompt + after for prompt, after in zip(prompts, texts.continuations, strict=True)]
    if task.python and not all(map(_parses, whole)):
        raise _DroppedError("prompt and continuation are not valid Python")
    ids = [tokenizer.encode(prompt) for prompt in prompts]
    if len(ids[0]) != len(ids[1]):
        raise _DroppedError("padding could not make the prompts equally long")
    length = len(ids[0])
    whole_ids = [tokenizer.encode(text) for text in whole]
    if any(full[:length] != prompt for full, prompt in zip(whole_ids, ids, strict=True)):
        raise _DroppedError("the prompt's tokens are not a prefix of prompt + continuation")
    rest_a, rest_b = whole_ids[0][length:], whole_ids[1][length:]
    # Tokens that both continuations begin with belong to the prompt: they decide nothing.
    shared = next((i for i, (a, b) in enumerate(zip(rest_a, rest_b, strict=False)) if a != b), None)
    if shared is None:
        raise _DroppedError("the two right continuations do not differ")
    length += shared
    a, b = whole_ids[0][:length], whole_ids[1][:length]
    if a == b:
        raise _DroppedError("the two prompts are the same")
    if a[-1:] != b[-1:]:
        raise _DroppedError("the prompts do not end in the same token")
    if not MIN_TOKENS <= length <= MAX_TOKENS:
        raise _DroppedError(f"a prompt has fewer than {MIN_TOKENS} or more than {MAX_TOKENS} tokens")
    answers = rest_a[shared], rest_b[shared]
    if not shared:
        return _Encoded((a, b), answers, prompts, texts.continuations)
    afters = tokenizer.decode(rest_a[shared:]), tokenizer.decode(rest_b[shared:])
    return _Encoded((a, b), answers, (tokenizer.decode(a), tokenizer.decode(b)), afters)


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True

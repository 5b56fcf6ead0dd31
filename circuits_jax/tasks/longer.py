"""The same contrast pairs with more in between: longer lists, and comments that grow by as many tokens.

What is inserted for n is a prefix of what is inserted for more, and it is the same in both prompts of a pair,
so that lengths, places and kinds of filler are compared on otherwise equal prompts.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from circuits_jax.data.programs.words import WORDS
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.storage.errors import TaskError
from circuits_jax.tasks.task import Pairs
from circuits_jax.tasks.template import single_pieces

_COMMA, _COMMENT = ", ", "# "


def longer_lists(
    pairs: Pairs, tokenizer: Tokenizer, elements: int, kind: str, seed: int, n_ctx: int
) -> Pairs:
    """`pairs` with `elements` more elements before the last comma of each prompt.

    Args:
      pairs: Pairs whose prompts end in an open list of at least two elements.
      tokenizer: That they were built with.
      elements: How many to insert.
      kind: Of the elements: a kind of `data.programs.words`, such as "d" (digits) or "n" (names).
      seed: Of the elements.
      n_ctx: Longest sequence of the model.

    Raises:
      TaskError: if a prompt has no comma, becomes longer than `n_ctx`, or its tokens do not allow it.
    """
    words = _words(pairs, tokenizer, kind)
    texts = []
    for number, prompts in enumerate(pairs.texts):
        drawn = _draw(words, elements, seed, number)
        a, b = (_insert(text, _COMMA, drawn) for text in prompts)
        texts.append((a, b))
    return _rebuild(pairs, tokenizer, texts, n_ctx)


def longer_comments(
    pairs: Pairs, tokenizer: Tokenizer, tokens: Sequence[int] | np.ndarray, seed: int, n_ctx: int
) -> Pairs:
    """`pairs` whose first comment has `tokens[i]` more words in pair i, each of them one token.

    Raises:
      TaskError: as above.
    """
    words = _words(pairs, tokenizer, "w")
    texts = []
    for number, (prompts, count) in enumerate(zip(pairs.texts, tokens, strict=True)):
        drawn = " ".join(_draw(words, int(count), seed, number))
        if any(_COMMENT not in text for text in prompts):
            raise TaskError(f"a prompt of task {pairs.task} has no comment to lengthen: {prompts[0]!r}")
        a, b = (text.replace(_COMMENT, f"{_COMMENT}{drawn} ", 1) if drawn else text for text in prompts)
        texts.append((a, b))
    return _rebuild(pairs, tokenizer, texts, n_ctx)


def insert_tokens(pairs: Pairs, places: Sequence[int], tokens: Sequence[Sequence[int]]) -> Pairs:
    """`pairs` with token ids inserted into both prompts, for tasks that have no text.

    Args:
      pairs: Any pairs.
      places: For each pair, the position at which the first inserted token stands, at most its `last`.
      tokens: For each pair, the ids to insert.
    """
    rows = zip(pairs.tokens, pairs.last, places, tokens, strict=True)
    longer = [np.insert(row[:, : end + 1], [place] * len(new), new, axis=1) for row, end, place, new in rows]
    last = np.array([row.shape[1] - 1 for row in longer], np.int32)
    padded = np.zeros((len(longer), 2, int(last.max()) + 1), np.int32)
    for row, ids in zip(padded, longer, strict=True):
        row[:, : ids.shape[1]] = ids
    return dataclasses.replace(pairs, tokens=padded, last=last)


def _words(pairs: Pairs, tokenizer: Tokenizer, kind: str) -> tuple[str, ...]:
    words = WORDS[pairs.split][kind]
    return words if kind == "d" else single_pieces(words, tokenizer)


def _draw(words: tuple[str, ...], count: int, seed: int, number: int) -> list[str]:
    """The first `count` words of pair `number`'s own endless sequence."""
    rng = np.random.RandomState([seed, number])
    return [words[rng.randint(len(words))] for _ in range(count)]


def _insert(text: str, mark: str, elements: list[str]) -> str:
    head, found, tail = text.rpartition(mark)
    if not found:
        raise TaskError(f"the prompt {text!r} ends in no list that could be longer")
    return mark.join([head, *elements, tail])


def _rebuild(pairs: Pairs, tokenizer: Tokenizer, texts: list[tuple[str, str]], n_ctx: int) -> Pairs:
    """Encodes new texts and checks again what makes them contrast pairs."""
    encoded = [[tokenizer.encode(text) for text in prompts] for prompts in texts]
    longest = max(len(ids) for prompts in encoded for ids in prompts)
    if longest > n_ctx:
        raise TaskError(
            f"a longer prompt has {longest} tokens, more than the context of {n_ctx}; insert fewer"
        )
    tokens = np.full((len(texts), 2, longest), tokenizer.eot, np.int32)
    last = np.zeros(len(texts), np.int32)
    for row, (a, b) in enumerate(encoded):
        end = pairs.tokens[row, 0, pairs.last[row]]
        whole = [tokenizer.encode(x + y) for x, y in zip(texts[row], pairs.continuations[row], strict=True)]
        answers = tuple(pairs.answers[row])
        if len(a) != len(b) or a[-1] != end or b[-1] != end:
            raise TaskError(f"the longer prompts {texts[row]} are no contrast pair under this tokenizer")
        if (whole[0][: len(a) + 1], whole[1][: len(b) + 1]) != ([*a, answers[0]], [*b, answers[1]]):
            raise TaskError(f"the longer prompts {texts[row]} have other answers under this tokenizer")
        tokens[row, 0, : len(a)], tokens[row, 1, : len(b)] = a, b
        last[row] = len(a) - 1
    return dataclasses.replace(pairs, tokens=tokens, last=last, texts=texts)

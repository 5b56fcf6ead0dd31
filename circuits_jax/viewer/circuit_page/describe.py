"""A short description of what a node fires on, from data alone, with its precision and recall on other text.

A description is one predicate of the text up to and including a token.  The predicate that fits best on one
half of the corpus windows is measured on the other half; nothing else is claimed.
"""

import dataclasses
import keyword
from collections.abc import Sequence
from typing import Any

import numpy as np

MAX_TOKENS = 6
# A node "fires" where its magnitude is at least this share of its 99.9th percentile.
FIRING_SHARE = 0.5
MIN_F1 = 0.3
_LEAST_GAIN = 0.02  # in F1, of one more token
_MIN_FIRED = 8

_OPENERS, _CLOSERS = "([{", ")]}"
STATES = (
    "inside a string in single quotes",
    "inside a string in double quotes",
    "inside a string in triple quotes",
    "inside a comment",
    "inside one or more brackets",
    "inside two or more brackets",
    "at the first token of a line",
    "on a token that ends a line",
    "on whitespace",
    "on a number",
    "on a word",
    "on a keyword of Python",
    "on punctuation",
)


@dataclasses.dataclass(frozen=True)
class Text:
    """Corpus windows with what descriptions may speak of.

    Attributes:
      tokens: int32 [windows, n_ctx].
      states: bool [len(STATES), windows, n_ctx].
    """

    tokens: np.ndarray
    states: np.ndarray


def read_text(tokens: np.ndarray, texts: Sequence[str]) -> Text:
    """Scans windows of token ids; `texts[id]` is what a token stands for."""
    states = np.zeros((len(STATES), *tokens.shape), bool)
    for row, window in enumerate(tokens.tolist()):
        states[:, row] = _scan([texts[token] for token in window])
    return Text(tokens, states)


def describe(values: np.ndarray, text: Text, vocab_size: int) -> dict[str, Any] | None:
    """The best single predicate for where a node fires.

    Args:
      values: float32 [windows, n_ctx], the node's activations on `text`.
      text: The windows; even ones are fitted on, odd ones measured on.
      vocab_size: Number of token ids.

    Returns:
      {kind: "token", "previous" or "state"; words: token ids, or the state; signs: of the node's mean value
      on each, -1 or 1; precision, recall: on the held-out half; fired: tokens it fires on there; threshold},
      or None where the node hardly fires or no predicate reaches an F1 of MIN_F1 on the half that was fitted.
    """
    size = np.abs(values)
    threshold = FIRING_SHARE * float(np.quantile(size, 0.999))
    fires = (size >= threshold) & (size > 0)
    fit, held = slice(0, None, 2), slice(1, None, 2)
    if threshold == 0 or fires[fit].sum() < _MIN_FIRED or fires.all():
        return None
    before = np.pad(text.tokens, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    found = [
        _best_tokens("token", text.tokens, fires, vocab_size),
        _best_tokens("previous", before, fires, vocab_size),
        _best_state(text.states, fires),
    ]
    f1, kind, words = max(found, key=lambda candidate: candidate[0])
    if f1 < MIN_F1:
        return None
    where = [
        text.states[word] if kind == "state" else _tokens_of(kind, text.tokens, before) == word
        for word in words
    ]
    matched = np.any(where, axis=0)
    hits = float((matched & fires)[held].sum())
    return {
        "kind": kind,
        "words": [STATES[words[0]]] if kind == "state" else words,
        "signs": [1 if values[each & fires].sum() >= 0 else -1 for each in where],
        "precision": hits / max(1.0, float(matched[held].sum())),
        "recall": hits / max(1.0, float(fires[held].sum())),
        "fired": int(fires[held].sum()),
        "threshold": threshold,
    }


def _tokens_of(kind: str, tokens: np.ndarray, before: np.ndarray) -> np.ndarray:
    return tokens if kind == "token" else before


def _best_tokens(
    kind: str, tokens: np.ndarray, fires: np.ndarray, vocab_size: int
) -> tuple[float, str, list[int]]:
    """Up to MAX_TOKENS tokens, added greedily while each adds to F1."""
    tokens, fires = tokens[::2].ravel(), fires[::2].ravel()
    known = tokens >= 0
    count = np.bincount(tokens[known], minlength=vocab_size)
    hits = np.bincount(tokens[known & fires], minlength=vocab_size)
    total, best, chosen = fires.sum(), 0.0, []
    covered, matched = 0, 0
    while len(chosen) < MAX_TOKENS:
        f1 = 2 * (covered + hits) / (matched + count + total)
        f1[chosen] = 0
        token = int(f1.argmax())
        if f1[token] < best + _LEAST_GAIN:
            break
        best, chosen = float(f1[token]), [*chosen, token]
        covered, matched = covered + hits[token], matched + count[token]
    return best, kind, chosen


def _best_state(states: np.ndarray, fires: np.ndarray) -> tuple[float, str, list[int]]:
    states, fires = states[:, ::2], fires[::2]
    hits = (states & fires).sum(axis=(1, 2))
    f1 = 2 * hits / (states.sum(axis=(1, 2)) + fires.sum())
    return float(f1.max()), "state", [int(f1.argmax())]


def _scan(pieces: Sequence[str]) -> np.ndarray:
    """bool [len(STATES), tokens]: what holds after each token, reading from the window's start."""
    states = np.zeros((len(STATES), len(pieces)), bool)
    quote, depth, comment, fresh, escaped = "", 0, False, True, False
    for place, piece in enumerate(pieces):
        first, i = fresh, 0
        while i < len(piece):
            character = piece[i]
            mark = piece[i : i + 3] if piece[i : i + 3] in ('"""', "'''") else character
            if escaped:
                escaped = False
            elif quote:
                escaped = character == "\\"
                quote = "" if mark == quote or (len(quote) == 1 and character == "\n") else quote
            elif comment:
                comment = character != "\n"
            elif mark[0] in "'\"":
                quote = mark
            elif character == "#":
                comment = True
            elif character in _OPENERS:
                depth += 1
            elif character in _CLOSERS:
                depth = max(0, depth - 1)
            fresh = character == "\n" or (fresh and character in " \t")
            i += len(mark)
        word = piece.strip()
        states[:, place] = (
            quote == "'", quote == '"', len(quote) == 3, comment, depth >= 1, depth >= 2,
            first and not fresh, piece.endswith("\n"), bool(piece) and not word, word.isdigit(),
            word.isidentifier(), keyword.iskeyword(word),
            bool(word) and not any(c.isalnum() or c == "_" for c in word),
        )  # fmt: skip
    return states

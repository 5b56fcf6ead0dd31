"""Positions of real code that ask what a task asks, so that a circuit is not judged on templates alone.

At a natural position the next token of the corpus is one of the task's two answers.  That alone is not
enough: at most places only one of the two could stand.  So the position must also ask the task's question:
for quotes it ends a string that was opened in the same window; for any other task the current token is one
after which validation text has both answers, so that no bigram decides (docs/tasks.md, "Rules").
"""

import dataclasses

import numpy as np

from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.storage.errors import TaskError
from circuits_jax.tasks.task import Pairs

QUOTES = ('"', "'")
_OPENERS = ('"""', "'''", *QUOTES)


@dataclasses.dataclass(frozen=True)
class Natural:
    """Natural positions of one task.

    Attributes:
      answers: int32 [2], answer tokens of prompts A and B.
      tokens: int32 [R, n_ctx], the windows they lie in.
      at: int32 [R], the position in the window; the token after it is an answer.
      second: bool [R], whether that is the answer of B.
      window: int [R], which window of the corpus it is; positions of one are alike.
      found: How many there are in the corpus, of which R were drawn.
      condition: What makes a position one, in words.
    """

    answers: np.ndarray
    tokens: np.ndarray
    at: np.ndarray
    second: np.ndarray
    window: np.ndarray
    found: int
    condition: str


def find_natural(
    pairs: Pairs, tokenizer: Tokenizer, windows: np.ndarray, limit: int, context: int, seed: int
) -> Natural:
    """Draws up to `limit` natural positions of the task of `pairs`.

    Args:
      pairs: Name the two answers.
      tokenizer: Of pairs and windows.
      windows: int [M, n_ctx + 1], cut from one row of text.
      limit: Most positions.
      context: Tokens that a position has before it in its window, at least.
      seed: Of the draw.

    Raises:
      TaskError: if the answers vary from pair to pair, or there is no such position.
    """
    tuples, counts = np.unique(pairs.answers, axis=0, return_counts=True)
    if 2 * counts.max() < len(pairs.answers):
        raise TaskError(f"the two answers of {pairs.task} vary from pair to pair: no position asks for them")
    answers = tuples[counts.argmax()].astype(np.int32)
    if len(set(tokenizer.pieces(answers.tolist())) & set(QUOTES)) == 2:
        condition = "the token ends a string that was opened in the window"
        asks = _closing(windows, tokenizer, answers)
    else:
        condition = "the current token is followed by either answer somewhere in the validation corpus"
        asks = _contested(windows, answers)
    asks[:, :context] = False
    found = np.argwhere(asks)
    if not len(found):
        raise TaskError(f"no position of the validation corpus asks what {pairs.task} asks")
    chosen = np.random.RandomState(seed).permutation(len(found))[:limit]
    row, at = found[np.sort(chosen)].T
    second = windows[row, at + 1] == answers[1]
    tokens = np.asarray(windows[row, :-1], np.int32)
    return Natural(answers, tokens, at.astype(np.int32), second, row, len(found), condition)


def _contested(windows: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """bool [M, n_ctx]: the next token is an answer, and both answers somewhere follow the current one."""
    current, following = windows[:, :-1], windows[:, 1:]
    before_a, before_b = (np.unique(current[following == answer]) for answer in answers)
    return np.isin(following, answers) & np.isin(current, np.intersect1d(before_a, before_b))


def _closing(windows: np.ndarray, tokenizer: Tokenizer, quotes: np.ndarray) -> np.ndarray:
    """bool [M, n_ctx]: the next token, one of `quotes`, ends a string that begins in the same window."""
    width = windows.shape[1]
    opened = opening_quotes(windows.reshape(-1), tokenizer).reshape(windows.shape)
    start = np.arange(len(windows))[:, None] * width
    return (opened[:, 1:] >= start) & np.isin(windows[:, 1:], quotes)


def opening_quotes(stream: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """Where the string that each token ends was opened, int64 [M]; -1 for a token that ends none.

    Reads Python as its tokens come: strings of all four quotes, which are tokens of their own, escapes, and
    comments, in which a quote means nothing.

    Args:
      stream: int [M], documents with end-of-text between them.
    """
    pieces = tokenizer.pieces(range(tokenizer.vocab_size))
    opened = np.full(len(stream), -1, np.int64)
    quote, since, comment, escaped = "", -1, False, False
    for place, token in enumerate(stream.tolist()):
        piece = pieces[token]
        if token == tokenizer.eot:
            quote, comment = "", False
        elif quote:
            if piece == quote and not escaped:
                opened[place], quote = since, ""
            elif "\n" in piece and len(quote) == 1:  # no string goes on there: this was none
                quote = ""
        elif comment or "#" in piece:
            comment = "\n" not in piece.rpartition("#")[2]
        elif piece in _OPENERS:
            quote, since = piece, place
        text = piece.rstrip("\\")
        backslashes = len(piece) - len(text) + (escaped if not text else 0)
        escaped = bool(quote) and backslashes % 2 == 1
    return opened

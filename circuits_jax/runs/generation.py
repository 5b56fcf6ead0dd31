"""Writes on from a prompt, token by token."""

from collections.abc import Callable, Iterator, Sequence

from circuits_jax.config.checks import check_positive
from circuits_jax.model.generate import Sampling, generate
from circuits_jax.model.model import Model

# Bytes of an unfinished character: what they decode to changes when the rest comes.
_UNFINISHED, _REPLACEMENT = 3, "\ufffd"


def stream(tokens: Iterator[int], decode: Callable[[Sequence[int]], str]) -> Iterator[str]:
    """The text of `tokens` in pieces that never change again; together they are `decode(list(tokens))`.

    A character may be spread over up to four byte tokens; what could still become one is held back.
    """
    pending: list[int] = []
    told = 0
    for token in tokens:
        pending.append(token)
        text = decode(pending)
        settled = text.rstrip(_REPLACEMENT)
        yield text[told : max(len(settled), len(text) - _UNFINISHED)]
        told = max(told, len(settled), len(text) - _UNFINISHED)
        if settled == text:
            pending, told = [], 0
    yield decode(pending)[told:]


def write_on(model: Model, prompt: Sequence[int], count: int, sampling: Sampling) -> Iterator[str]:
    """The prompt and what the model writes after it, in pieces, up to the end-of-text token.

    Without a tokenizer the pieces are token ids.

    Args:
      model: The model.
      prompt: Token ids.
      count: Tokens to write.
      sampling: How they are drawn.

    Raises:
      ConfigError: for a prompt or a count that cannot be used.
    """
    check_positive("max_tokens", count)
    tokenizer = model.tokenizer
    known = None if tokenizer is None else tokenizer.vocab_size
    drawn = generate(model, prompt, count, sampling, known)
    if tokenizer is None:
        return (f"{token} " for token in [*prompt, *drawn])
    return stream(_until(tokenizer.eot, prompt, drawn), tokenizer.decode)


def _until(eot: int, prompt: Sequence[int], drawn: Iterator[int]) -> Iterator[int]:
    """The prompt and what is drawn after it, up to the end of the text."""
    yield from prompt
    for token in drawn:
        if token == eot:
            return
        yield token

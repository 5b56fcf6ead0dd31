"""Writes on from a prompt, token by token.

    python -m experiments.generate --model=runs/quickstart --prompt='def ' [--temperature=0 --max_tokens=100]

Ends at the end-of-text token or after --max_tokens.  When the context is full, its newer half is read again
and the text goes on from there (told on stderr).
"""

import sys
from collections.abc import Callable, Iterator, Sequence

from absl import flags

from circuits_jax.checks import check_positive
from circuits_jax.model.generate import Sampling, generate
from experiments import common, models

_MAX_TOKENS = flags.DEFINE_integer("max_tokens", 100, "Tokens to write.")
_TEMPERATURE = flags.DEFINE_float("temperature", 0.8, "Logits are divided by it; 0 takes the most probable.")
_TOP_K = flags.DEFINE_integer("top_k", None, "Draw from this many of the most probable tokens.")
_TOP_P = flags.DEFINE_float("top_p", 1.0, "Draw from the most probable tokens of this share together.")
_SEED = flags.DEFINE_integer("seed", 0, "Same seed, same text.")

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


def main() -> None:
    """The command."""
    check_positive("--max_tokens", _MAX_TOKENS.value)
    sampling = Sampling(_TEMPERATURE.value, _TOP_K.value, _TOP_P.value, _SEED.value)
    opened = models.open_model()
    prompt, tokenizer, n_ctx = models.read_prompt(opened), opened.tokenizer, opened.model.config.n_ctx
    drawn = generate(
        opened.model,
        opened.params,
        prompt,
        _MAX_TOKENS.value,
        sampling,
        None if tokenizer is None else tokenizer.vocab_size,
    )
    if tokenizer is None:
        pieces = (f"{token} " for token in [*prompt, *drawn])
    else:
        pieces = stream(_until(tokenizer.eot, prompt, drawn), tokenizer.decode)
    if len(prompt) + _MAX_TOKENS.value > n_ctx:
        print(
            f"note: the context holds {n_ctx} tokens; when full, its newer half is read again",
            file=sys.stderr,
        )
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def _until(eot: int, prompt: Sequence[int], drawn: Iterator[int]) -> Iterator[int]:
    """The prompt and what is drawn after it, up to the end of the text."""
    yield from prompt
    for token in drawn:
        if token == eot:
            return
        yield token


if __name__ == "__main__":
    common.run(main)

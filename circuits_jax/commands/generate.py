"""Writes on from a prompt, token by token.

    python -m circuits_jax generate --model=runs/quickstart --prompt='def ' [--temperature=0 --max_tokens=100]

Ends at the end-of-text token or after --max_tokens.  When the context is full, its newer half is read again
and the text goes on from there (told on stderr).
"""

import sys

from absl import flags

from circuits_jax.commands import launching
from circuits_jax.commands.reading import define_prompt, read_prompt
from circuits_jax.model.generate import Sampling
from circuits_jax.runs.generation import write_on
from circuits_jax.runs.opening import load_model


def define_flags() -> None:
    """The flags of this command."""
    launching.define_model()
    define_prompt()
    flags.DEFINE_integer("max_tokens", 100, "Tokens to write.")
    flags.DEFINE_float("temperature", 0.8, "Logits are divided by it; 0 takes the most probable.")
    flags.DEFINE_integer("top_k", None, "Draw from this many of the most probable tokens.")
    flags.DEFINE_float("top_p", 1.0, "Draw from the most probable tokens of this share together.")
    flags.DEFINE_integer("seed", 0, "Same seed, same text.")


def main() -> None:
    """The command."""
    given = flags.FLAGS
    sampling = Sampling(given.temperature, given.top_k, given.top_p, given.seed)
    model = load_model(launching.model_name())
    prompt = read_prompt(model)
    pieces = write_on(model, prompt, given.max_tokens, sampling)
    n_ctx = model.config.n_ctx
    if len(prompt) + given.max_tokens > n_ctx:
        note = f"note: the context holds {n_ctx} tokens; when full, its newer half is read again"
        print(note, file=sys.stderr)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()

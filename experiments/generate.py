"""Writes on from a prompt, token by token.

    python -m experiments.generate --model=runs/quickstart --prompt='def ' [--temperature=0 --max_tokens=100]

Ends at the end-of-text token or after --max_tokens.  When the context is full, its newer half is read again
and the text goes on from there (told on stderr).
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("generate", sys.argv[1:])

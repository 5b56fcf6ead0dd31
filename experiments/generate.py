"""Writes on from a prompt, token by token.

    python -m experiments.generate --model=runs/quickstart --prompt='def ' [--temperature=0 --max_tokens=100]

`--help` tells more, and every flag (circuits_jax/commands/generate.py).
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("generate", sys.argv[1:])

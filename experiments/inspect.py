"""What a model is made of: configuration, nonzero weights, dead units, and what a token's embedding says.

    python -m experiments.inspect --model=runs/quickstart [--token='"']

`--help` tells more, and every flag (circuits_jax/commands/inspect.py).
"""

if not __package__:  # a script of this folder was started by its path, where Python looks for its own inspect
    raise ImportError("start experiments from the repository's root: python -m experiments.inspect")

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("inspect", sys.argv[1:])

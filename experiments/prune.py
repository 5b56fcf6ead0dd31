"""Cuts the circuits of the configured tasks out of a trained model.

    python -m experiments.prune --workdir=runs/mine --tasks=all --trials=8

`--help` tells more, and every flag (circuits_jax/commands/prune.py).
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("prune", sys.argv[1:])

"""Cuts the circuits of the configured tasks out of a trained model.

    python -m experiments.prune --workdir=runs/mine --tasks=all --trials=8

A circuit that is there already, of the same model and settings, is kept, and so are the finished parts of a
search: a command that was killed goes on when it is given again.
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("prune", sys.argv[1:])

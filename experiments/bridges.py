"""Trains bridges between a dense and a sparse model, and says how well they bridge.

    python -m experiments.bridges --config=bridges --config.bridge.dense=runs/dense --workdir=runs/bridges

`--help` tells more, and every flag (circuits_jax/commands/bridges.py).
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("bridges", sys.argv[1:])

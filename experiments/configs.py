"""Prints the figures of every paper-sized configuration: the ones their docstrings quote.

    python -m experiments.configs

`--help` tells more, and every flag (circuits_jax/commands/configs.py).
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("configs", sys.argv[1:])

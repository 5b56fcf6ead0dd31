"""Writes the pages of a run's circuits, HTML files that open anywhere, and an index of them.

    python -m experiments.view runs/quickstart

`--help` tells more, and every flag (circuits_jax/commands/view.py).
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("view", sys.argv[1:])

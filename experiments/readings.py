"""Reads a circuit's edges one by one: at which tokens does each act, and is that all that it does?

    python -m experiments.readings --workdir=runs/quickstart [--tasks=single_double_quote --rules=mine.json]

Writes `readings.json` beside each circuit; pages drawn afterwards show it.
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("readings", sys.argv[1:])

"""Turns a sparse node inside the dense model that it is bridged to, and watches the dense model's answers.

    python -m experiments.steer --workdir=runs/bridges

`--help` tells more, and every flag (circuits_jax/commands/steer.py).
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("steer", sys.argv[1:])

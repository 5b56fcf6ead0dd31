"""Understanding used: lists that fool a model's bracket circuit, derived from the circuit, and controls.

    python -m experiments.attack --model=runs/quickstart [--circuit=FOLDER --elements=0,4,16]

`--help` tells more, and every flag (circuits_jax/commands/attack.py).
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("attack", sys.argv[1:])

"""Understanding used: lists that fool a model's bracket circuit, derived from the circuit, and controls.

    python -m experiments.attack --model=runs/quickstart [--circuit=FOLDER --elements=0,4,16]
    python -m experiments.attack --planted --workdir=runs/planted

`circuits.attack` says what is predicted and measured.  Writes attack.json and attack.png.
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("attack", sys.argv[1:])

"""Makes the folder of the model that comes with the library out of a finished run, for its developers.

    python -m experiments.ship --workdir=runs/long --out=circuits_jax/shipped

`--help` tells more, and every flag (circuits_jax/commands/ship.py).
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("ship", sys.argv[1:])

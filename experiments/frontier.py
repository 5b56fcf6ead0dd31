"""How much smaller are the circuits of sparse models at equal loss?  Many models, one picture.

    python -m experiments.frontier --config=frontier_laptop --workdir=runs/frontier [--plan]

`--help` tells more, and every flag (circuits_jax/commands/frontier.py).
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("frontier", sys.argv[1:])

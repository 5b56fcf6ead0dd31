"""Does pruning find circuits that are known?  Precision and recall on planted networks, nodes and edges.

    python -m experiments.planted --workdir=runs/planted --seeds=5

`--help` tells more, and every flag (circuits_jax/commands/planted.py).
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("planted", sys.argv[1:])

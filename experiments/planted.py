"""Does pruning find circuits that are known?  Precision and recall on planted networks, nodes and edges.

    python -m experiments.planted --workdir=runs/planted --seeds=5

Each seed is another network: other distractors, other pairs, another layout, other first masks.
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("planted", sys.argv[1:])

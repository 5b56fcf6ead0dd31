"""From Python source to readable circuits in one go: corpus, training, pruning, page.

    python -m experiments.quickstart

`--help` tells more, and every flag (circuits_jax/commands/quickstart.py).
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("quickstart", sys.argv[1:])

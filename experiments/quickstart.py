"""From Python source to readable circuits in one go: corpus, training, pruning, page.

    python -m experiments.quickstart

A second call with the same workdir reuses what is finished and goes on with the rest.
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("quickstart", sys.argv[1:])

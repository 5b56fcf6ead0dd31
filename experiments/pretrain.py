"""Trains a weight-sparse model, on a laptop or a pod.

    python -m experiments.pretrain --workdir=runs/mine --config.train.steps=4000

`--help` tells more, and every flag (circuits_jax/commands/pretrain.py).
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("pretrain", sys.argv[1:])

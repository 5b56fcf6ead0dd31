"""Trains a weight-sparse model, on a laptop or a pod.

    python -m experiments.pretrain --workdir=runs/mine --config.train.steps=4000
    python -m experiments.pretrain --workdir=gs://bucket/mine --config.mesh.model=4 --distributed

Run again with the same command, it goes on from its newest checkpoint.  --config.train.start_from=WORKDIR
starts from the parameters of another run, or of a released model, with fresh schedules.
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("pretrain", sys.argv[1:])

"""Trains bridges between a dense and a sparse model, and says how well they bridge.

    python -m experiments.bridges --config=bridges --config.bridge.dense=runs/dense --workdir=runs/bridges
    python -m experiments.bridges --config.bridge.dense=runs/dense --config.bridge.sparse=runs/sparse ...

The first trains the sparse model of `config.model` from scratch, coupled to the dense one (with
--config.train.start_from=runs/sparse from the parameters of a trained one); the second takes a sparse model
as it is and trains bridges alone.  Run again with the same command, it goes on from its newest checkpoint.
The workdir gets `bridge/` (the bridges), `sparse/` (a coupled sparse model, a workdir like any other: cut
circuits with `prune --workdir=.../sparse`), `bridges.json` and `bridges.html`.
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("bridges", sys.argv[1:])

"""Turns a sparse node inside the dense model that it is bridged to, and watches the dense model's answers.

    python -m experiments.steer --workdir=runs/bridges
    python -m experiments.steer --workdir=runs/bridges --config.steer.tasks='("with_as",)'
    python -m experiments.steer --workdir=runs/bridges --config.steer.tasks='("single_double_quote",)' \\
        --circuit=runs/bridges/sparse/circuits/single_double_quote --nodes=0.mlp.post_act.12

Nodes are those of --nodes; else the best ones at --sites (say, neurons alone: --sites='*.mlp.post_act'), of
--circuit if one is named, else of the whole sparse model.  A circuit that the sparse model has of the task is
put to work inside the dense model too.  Writes `steer.json` into the workdir and, with what the command
`bridges` found, `bridges.html`.
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("steer", sys.argv[1:])

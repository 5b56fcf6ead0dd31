"""Writes a run's circuits for other programs: edge list (csv), GraphML, node-link JSON, or viz_data.pt.

    python -m experiments.export --workdir=runs/quickstart --task=single_double_quote --format=graphml

`--help` tells more, and every flag (circuits_jax/commands/export.py).
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("export", sys.argv[1:])

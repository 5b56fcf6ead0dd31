"""Writes a run's circuits for other programs: edge list (csv), GraphML, node-link JSON, or viz_data.pt.

    python -m experiments.export --workdir=runs/quickstart --task=single_double_quote --format=graphml

A file goes beside each circuit: `<workdir>/circuits/<task>/circuit_graph.<format>`, or with --format=viz
`viz_data.pt`, which holds what the released visualizer reads (but no texts).  No model is needed.
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("export", sys.argv[1:])

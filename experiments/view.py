"""Writes the pages of a run's circuits, HTML files that open anywhere, and an index of them.

    python -m experiments.view runs/quickstart
    python -m experiments.view runs/quickstart --annotations=annotations.json
    python -m experiments.view runs/quickstart --compare=lambda_func,runs/other/circuits/lambda_func

The index is `<workdir>/report.html`, a circuit's page `<workdir>/circuits/<task>/page.html`, and a
comparison, of tasks of this run or folders of circuits of other runs, `<workdir>/compare.html`.
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("view", sys.argv[1:])

"""Turns a released checkpoint into a workdir, on which prune, tasks, audit and view then run.

    python -m experiments.import_model --source=path/to/csp_yolo1 --workdir=runs/yolo1

`--help` tells more, and every flag (circuits_jax/commands/import_model.py).
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("import_model", sys.argv[1:])

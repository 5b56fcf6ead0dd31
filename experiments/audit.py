"""Are the circuits of a run what its model really uses?  The verdict on each, and how it was reached.

    python -m experiments.audit --workdir=runs/quickstart [--tasks=single_double_quote] [--controls=full]

`--help` tells more, and every flag (circuits_jax/commands/audit.py).
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("audit", sys.argv[1:])

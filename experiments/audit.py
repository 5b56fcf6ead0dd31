"""Are the circuits of a run what its model really uses?  The verdict on each, and how it was reached.

    python -m experiments.audit --workdir=runs/quickstart [--tasks=single_double_quote] [--controls=full]

Writes `audit.json` and `audit.html` into the workdir.  A circuit that was audited already, with the same
settings, is not examined again; nor are the others when the command is stopped and started anew.
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("audit", sys.argv[1:])

"""Do training seeds agree?  Looks for the nodes of each run's circuits in the other runs, by what they do.

    python -m experiments.agreement --runs=runs/seed0,runs/seed1,runs/seed2 --workdir=runs/agreement

`--help` tells more, and every flag (circuits_jax/commands/agreement.py).
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("agreement", sys.argv[1:])

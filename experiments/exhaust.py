"""How many circuits does a model have for one task?  Nodes once found are banned, and it is pruned again.

    python -m experiments.exhaust --workdir=runs/mine --tasks=single_double_quote --max_circuits=8

`--help` tells more, and every flag (circuits_jax/commands/exhaust.py).
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("exhaust", sys.argv[1:])

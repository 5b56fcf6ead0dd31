"""Measures the sharded trainer on the accelerators at hand, and checks the projection on them.

    python -m experiments.device_check --config=paper_8x1024 --workdir=runs/check

`--help` tells more, and every flag (circuits_jax/commands/device_check.py).
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("device_check", sys.argv[1:])

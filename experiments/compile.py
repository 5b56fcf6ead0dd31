"""Compiles what a run would execute for TPUs that are not at hand, and tells whether it fits.

    python -m experiments.compile --config=paper_8x1024 --topology=v5e:4x4

`--help` tells more, and every flag (circuits_jax/commands/compile.py).
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("compile", sys.argv[1:])

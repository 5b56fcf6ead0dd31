"""Measures the sharded trainer on the accelerators at hand, and checks the projection on them.

    python -m experiments.device_check --config=paper_8x1024 --workdir=runs/check

Tokens a second, MFU, and the share of a step that the projection and AbsTopK take, on random tokens; then
whether the projection of a sharded parameter is that of a whole one, bit for bit.  Takes minutes on one GPU.
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("device_check", sys.argv[1:])

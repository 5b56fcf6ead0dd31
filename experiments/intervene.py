"""Changes nodes of a model by hand and compares the next tokens before and after.

    python -m experiments.intervene --model=runs/quickstart --prompt='print("hi' --ablate=1.attn.v.12:mean

`--help` tells more, and every flag (circuits_jax/commands/intervene.py).
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("intervene", sys.argv[1:])

"""Changes nodes of a model by hand and compares the next tokens before and after.

    python -m experiments.intervene --model=runs/quickstart --prompt='print("hi' --ablate=1.attn.v.12:mean
    python -m experiments.intervene --model=runs/quickstart --prompt='print("hi' \\
        --circuit=runs/quickstart/circuits/single_double_quote --circuit_role=ablate

--set and --ablate may be given several times, or with commas.  What they do acts at the positions --at; a
circuit's ablation acts at every position.
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("intervene", sys.argv[1:])

"""Are the stories of circuits true?  Tests what they claim, on the whole model, and writes the figures down.

    python -m experiments.stories --workdir=runs/quickstart --tasks=single_double_quote

A story is a file of yours, `circuits/TASK/story.json` in the workdir.
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("stories", sys.argv[1:])

"""Lists the tasks: an example pair, the answer tokens, what survives the tokenizer, and how a model does.

    python -m experiments.tasks

`--help` tells more, and every flag (circuits_jax/commands/tasks.py).
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("tasks", sys.argv[1:])

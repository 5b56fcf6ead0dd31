"""Lists the tasks: an example pair, the answer tokens, what survives the tokenizer, and how a model does.

    python -m experiments.tasks
    python -m experiments.tasks --workdir=runs/quickstart [--tasks=single_double_quote,my_task.py]

`--tasks` takes names, and files of your own: a Python file that defines a Task, or a JSONL of pairs.  Without
--workdir the tasks are listed as texts, without a tokenizer; where the workdir has a tokenizer and no
checkpoint yet, the model's columns are left out.
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("tasks", sys.argv[1:])

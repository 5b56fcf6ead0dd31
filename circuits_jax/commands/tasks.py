"""Lists the tasks: an example pair, the answer tokens, what survives the tokenizer, and how a model does.

    python -m circuits_jax tasks
    python -m circuits_jax tasks --workdir=runs/quickstart [--tasks=single_double_quote,my_task.py]
    python -m circuits_jax tasks --workdir=runs/quickstart --patterns

`--tasks` takes names, and files of your own: a Python file that defines a Task, or a JSONL of pairs.  Without
--workdir the tasks are listed as texts, without a tokenizer; where the workdir has a tokenizer and no
checkpoint yet, the model's columns are left out.  `--patterns` asks no model: it tells how often the run's
training text decides what the tasks ask, per million tokens of real code and of generated programs.
"""

from absl import flags

from circuits_jax.commands import launching, path_flags
from circuits_jax.runs.opening import load_tokenizer_and_model
from circuits_jax.runs.patterns import pattern_table
from circuits_jax.runs.pruning import tasks_of
from circuits_jax.runs.scoring import example, pairs_or_refusal, task_rows, text_example
from circuits_jax.storage import filenames
from circuits_jax.tasks import Pairs


def define_flags() -> None:
    """The flags of this command."""
    flags.DEFINE_string("workdir", None, "Folder of a run; without one no model is asked.")
    path_flags.define_names("tasks", ["all"], "Task names or files; all twenty by default.")
    flags.DEFINE_integer("pairs", 128, "Test pairs a task is judged on.", lower_bound=1)
    flags.DEFINE_bool("patterns", False, "Count the tasks' patterns in the run's training text.")
    launching.define_store()
    launching.define_out()


def main() -> None:
    """The command."""
    given = flags.FLAGS
    launching.refuse_without("workdir", "out", "pairs", "patterns")
    launching.refuse_without("patterns", "store")
    launching.refuse_with("patterns", "pairs")
    tasks = tasks_of(given.tasks)
    if given.workdir is None:
        for task in tasks:
            print(text_example(task))
        return
    if given.patterns:
        rows, summary = pattern_table(launching.workdir(), tasks, launching.store())
        launching.report(rows, launching.workdir() / filenames.PATTERNS, summary)
        return
    tokenizer, model = load_tokenizer_and_model(launching.workdir())
    built = [(task, pairs_or_refusal(task, tokenizer, given.pairs, model)) for task in tasks]
    for task, pairs in built:
        if isinstance(pairs, Pairs):
            print(example(task, pairs, tokenizer))
    launching.report(task_rows(built, tokenizer, model), launching.workdir() / filenames.TASKS)

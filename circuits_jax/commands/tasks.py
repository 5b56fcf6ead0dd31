"""Lists the tasks: an example pair, the answer tokens, what survives the tokenizer, and how a model does.

    python -m circuits_jax tasks
    python -m circuits_jax tasks --workdir=runs/quickstart [--tasks=single_double_quote,my_task.py]

`--tasks` takes names, and files of your own: a Python file that defines a Task, or a JSONL of pairs.  Without
--workdir the tasks are listed as texts, without a tokenizer; where the workdir has a tokenizer and no
checkpoint yet, the model's columns are left out.
"""

from pathlib import Path

from absl import flags

from circuits_jax.commands import launching
from circuits_jax.data.local_copy import local_folder
from circuits_jax.data.tokenizers.bpe import load_tokenizer
from circuits_jax.model.model import Model
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.runs.opening import load_workdir
from circuits_jax.runs.pruning import tasks_of
from circuits_jax.runs.scoring import context_of, example, task_rows, text_example
from circuits_jax.storage.errors import ConfigError, TaskError
from circuits_jax.storage.paths import exists
from circuits_jax.tasks import Pairs, Task, build_pairs
from circuits_jax.training.checkpoints import newest


def define_flags() -> None:
    """The flags of this command."""
    flags.DEFINE_string("workdir", None, "Folder of a run; without one no model is asked.")
    flags.DEFINE_list("tasks", ["all"], "Task names or files; all twenty by default.")
    flags.DEFINE_integer("pairs", 128, "Held-out pairs a task is judged on.", lower_bound=1)


def main() -> None:
    """The command."""
    given = flags.FLAGS
    if not given.tasks:
        raise ConfigError("--tasks is empty; name tasks or files of tasks, or leave it out for all twenty")
    tasks = tasks_of(given.tasks)
    if given.workdir is None:
        for task in tasks:
            print(text_example(task))
        return
    tokenizer, model = _open(launching.workdir())
    built = [(task, _pairs(task, tokenizer, model)) for task in tasks]
    for task, pairs in built:
        if isinstance(pairs, Pairs):
            print(example(task, pairs, tokenizer))
    launching.report(task_rows(built, tokenizer, model), launching.workdir() / "tasks.json")


def _pairs(task: Task, tokenizer: Tokenizer, model: Model | None) -> Pairs | str:
    """Held-out pairs of a task, or why there are none."""
    try:
        return build_pairs(task, tokenizer, "heldout", flags.FLAGS.pairs, 0, context_of(model))
    except TaskError as error:
        return str(error)


def _open(workdir: Path) -> tuple[Tokenizer, Model | None]:
    """The tokenizer in `workdir`, and its model if it has a checkpoint."""
    file = local_folder(workdir) / "tokenizer.model"
    if newest(workdir) is None and exists(file):
        return load_tokenizer(file), None
    run = load_workdir(workdir)
    return run.tokenizer, run.model

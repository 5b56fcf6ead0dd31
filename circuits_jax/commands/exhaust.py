"""How many circuits does a model have for one task?  Nodes once found are banned, and it is pruned again.

    python -m circuits_jax exhaust --workdir=runs/mine --tasks=single_double_quote --max_circuits=8

It ends when what is left of the model cannot be pruned to the target.  Prints and saves which share of the
model's behaviour each circuit explains, alone (f) and with those before it (f together), and by how much the
loss rises without it; `<workdir>/exhaust/<task>/compare.html` shows them side by side.  A command that was
killed goes on when it is given again.
"""

from absl import flags

from circuits_jax.commands import launching, path_flags, setting_flags
from circuits_jax.runs.exhausting import exhaust_table, exhaust_tasks
from circuits_jax.runs.opening import load_workdir
from circuits_jax.runs.pruning import tasks_of
from circuits_jax.storage.filenames import EXHAUST


def define_flags() -> None:
    """The flags of this command."""
    launching.define_workdir()
    launching.define_store()
    setting_flags.define_config(of_runs=True)
    path_flags.define_names("tasks", None, "Names or files of tasks, or all; instead of prune.tasks.")
    flags.DEFINE_integer("max_circuits", 8, "Circuits of one task, at most.", lower_bound=1)


def main() -> None:
    """The command."""
    prune, given = setting_flags.run_config(launching.workdir()).prune, flags.FLAGS
    run = load_workdir(launching.workdir(), launching.store())
    tasks = tasks_of(prune.tasks if given.tasks is None else given.tasks)
    found = exhaust_tasks(run, tasks, prune, given.max_circuits)
    summary = {each.task: each.words for each in found if each.circuits}
    pages = {f"page of {each.task}": str(each.page) for each in found if each.page}
    launching.report(exhaust_table(found), run.folder / EXHAUST, summary | pages)

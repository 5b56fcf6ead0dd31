"""Reads a circuit's edges one by one: at which tokens does each act, and is that all that it does?

    python -m circuits_jax readings --workdir=runs/quickstart [--tasks=single_double_quote --rules=mine.json]

A reading is a set of token ids; an edge passes if acting there alone keeps its effect on the task, and acting
elsewhere loses it.  Writes `readings.json` beside each circuit; pages drawn afterwards show it.  --rules is a
file of your own readings, {"SOURCE -> TARGET": [token ids or texts]}, in place of the default ones.
"""

from absl import flags

from circuits_jax.circuits.readings.records import show_rows
from circuits_jax.commands import launching, path_flags, setting_flags
from circuits_jax.runs.auditing import find_subjects
from circuits_jax.runs.opening import load_workdir
from circuits_jax.runs.readings import read_edges, readings_file, readings_table
from circuits_jax.storage.tables import show_table


def define_flags() -> None:
    """The flags of this command."""
    launching.define_workdir()
    launching.define_store()
    setting_flags.define_config(of_runs=True)
    path_flags.define_names("tasks", ["all"], "Tasks, or files of tasks, whose circuits are read.")
    flags.DEFINE_string("rules", None, "File of your own readings of one circuit's edges, as JSON.")
    launching.define_changed_tasks()


def main() -> None:
    """The command."""
    given = flags.FLAGS
    config = setting_flags.run_config(launching.workdir())
    run = load_workdir(launching.workdir(), launching.store())
    subjects = find_subjects(run, given.tasks, config.audit, given.changed_tasks)
    reports, refusals = read_edges(run, subjects, config.readings, given.rules)
    for task, report in reports.items():
        rows = show_rows(report.rows)
        if rows:
            print(show_table(rows, {"task": task, "file": str(readings_file(run, task))}), end="\n\n")
    launching.report(readings_table(reports, refusals), None)

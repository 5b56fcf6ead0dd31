"""Are the circuits of a run what its model really uses?  The verdict on each, and how it was reached.

    python -m circuits_jax audit --workdir=runs/quickstart [--tasks=single_double_quote] [--controls=full]

Writes `audit.json` and `audit.html` into the workdir, or into the folder --out.  The settings are the
run's own, unless --config names others; flags override both.  A circuit that was audited already, with the
same settings, is not examined again; nor are the others when the command is stopped and started anew.  The
circuit of a task that a Python file defines is audited where that file is named: --tasks=all,mine.py.
"""

from absl import flags

from circuits_jax.commands import launching, path_flags, setting_flags
from circuits_jax.config import DEFAULT_CONTROLS, control_choice
from circuits_jax.runs.audit_tables import audit_table
from circuits_jax.runs.auditing import audit, find_subjects
from circuits_jax.runs.opening import load_workdir
from circuits_jax.storage.filenames import AUDIT_PAGE


def define_flags() -> None:
    """The flags of this command."""
    launching.define_workdir()
    launching.define_store()
    setting_flags.define_config(of_runs=True)
    flags.DEFINE_string(
        "controls",
        DEFAULT_CONTROLS,
        "Which controls a circuit's size is compared with; they take most of the time. none; quick: one draw "
        "of each kind, minutes a task; full: as many as the verdict faithful needs.",
    )
    path_flags.define_names("tasks", ["all"], "Tasks, or files of tasks, whose circuits are audited.")
    launching.define_changed_tasks()
    path_flags.define_out_folder("the figures and the page instead of the workdir")


def main() -> None:
    """The command."""
    control_choice(flags.FLAGS.controls)
    config = setting_flags.run_config(launching.workdir()).audit
    run = load_workdir(launching.workdir(), launching.store())
    subjects = find_subjects(run, flags.FLAGS.tasks, config, flags.FLAGS.changed_tasks)
    out = path_flags.out_folder()
    reports, refusals = audit(run, subjects, config, flags.FLAGS.controls, out)
    pages = {
        "page": str((out or run.folder) / AUDIT_PAGE),
        "pages of circuits": "as they were; the command view draws them anew, with their verdicts",
    }
    launching.report(audit_table(reports, refusals), None, pages)

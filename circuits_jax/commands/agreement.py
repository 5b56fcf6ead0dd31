"""Do training seeds agree?  Looks for the nodes of each run's circuits in the other runs, by what they do.

    python -m circuits_jax agreement --runs=runs/seed0,runs/seed1,runs/seed2 --workdir=runs/agreement

A node is found where a node of the other circuit follows it on the same prompts; beside that stands what as
many random nodes of the other model give (docs/method.md, "Do seeds agree?").  Writes agreement.json into
the workdir.
"""

from absl import flags

from circuits_jax.commands import launching, path_flags
from circuits_jax.runs.agreement import AgreementSettings, compare_seeds
from circuits_jax.runs.opening import load
from circuits_jax.storage.errors import ConfigError


def define_flags() -> None:
    """The flags of this command."""
    launching.define_workdir("runs/agreement")
    launching.define_store()
    path_flags.define_names("runs", None, "Workdirs of the runs, or shipped; two or more.")
    path_flags.define_names(
        "tasks", ["all"], "Tasks, or files of tasks; all: those of which all runs have circuits."
    )
    launching.define_changed_tasks()
    flags.DEFINE_integer("pairs", 128, "Test pairs of each task.", lower_bound=8)
    flags.DEFINE_integer("seed", 1, "Of the pairs and of the random nodes.", lower_bound=0)


def main() -> None:
    """The command."""
    given = flags.FLAGS
    if given.runs is None:
        raise ConfigError("no runs are named; give two or more: --runs=runs/one,runs/other")
    runs = [load(name, store=launching.store()) for name in given.runs]
    asked = AgreementSettings(given.tasks, given.pairs, given.seed, given.changed_tasks)
    rows, summary = compare_seeds(runs, asked, launching.workdir())
    launching.report(rows, None, summary)

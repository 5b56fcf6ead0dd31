"""Trains a list of recipes, each with several seeds, and tells what each learnt.

    python -m experiments.benchmarks.recipes --workdir=runs/bigram
      --list=experiments/benchmarks/lists/bigram.json

A recipe is chosen by *select* pairs; `--split=test` is for the one that was chosen.  A command that was
stopped is given again and goes on.  Delete a run's folder to train it anew.
"""

import functools

from absl import flags

from circuits_jax.__main__ import stoppable
from circuits_jax.commands import launching, path_flags
from circuits_jax.runs import recipes
from circuits_jax.runs.pruning import tasks_of
from circuits_jax.runs.scoring import SPLITS
from circuits_jax.storage.paths import as_path
from circuits_jax.storage.tables import show_table


def define_flags() -> None:
    """The flags of this command."""
    launching.define_workdir()
    flags.DEFINE_string("list", None, "The list, a JSON file.", required=True)
    flags.DEFINE_list("only", [], "Names of recipes in the list; all by default.")
    flags.DEFINE_enum("split", "select", SPLITS, "Pairs that the models are asked.")
    path_flags.define_names("tasks", ["all"], "Task names or files; all twenty by default.")


def main() -> None:
    """The command."""
    given, workdir = flags.FLAGS, launching.workdir()
    points = recipes.read_points(as_path(given.list), workdir, given.only)
    rows = recipes.run_points(points, tasks_of(given.tasks), given.split, workdir)
    print(show_table(recipes.means(rows)))
    print(f"each run: {recipes.recipes_file(workdir, given.split)}")


if __name__ == "__main__":
    define_flags()
    stoppable(functools.partial(launching.start, main))

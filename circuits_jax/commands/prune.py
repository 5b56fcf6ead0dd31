"""Cuts the circuits of the configured tasks out of a trained model.

    python -m circuits_jax prune --workdir=runs/mine --tasks=all --trials=8
    python -m circuits_jax prune --workdir=runs/mine --ablations=all

The settings are the run's own, unless --config names others; flags override both.  A circuit that is there
already, of the same model and settings, is kept, and so are the finished parts of a search: a command that
was killed goes on when it is given again.  With --ablations circuits are cut under other
ablations too, and the table says how each does under all of them.
"""

import dataclasses

from absl import flags

from circuits_jax.commands import launching, path_flags, setting_flags
from circuits_jax.config import PruneConfig
from circuits_jax.runs.ablations import compare_ablations
from circuits_jax.runs.opening import load_workdir
from circuits_jax.runs.pruning import prune_tasks, pruning_table, tasks_of
from circuits_jax.storage import filenames
from circuits_jax.tasks import TASKS


def define_flags() -> None:
    """The flags of this command."""
    launching.define_workdir()
    launching.define_store()
    setting_flags.define_config(of_runs=True)
    path_flags.define_names("tasks", None, "Names or files of tasks, or all; instead of prune.tasks.")
    flags.DEFINE_integer("trials", None, "Settings tried for each task; instead of prune.trials.")
    flags.DEFINE_integer("seeds", None, "Seeds tried with each; instead of prune.seeds.")
    flags.DEFINE_list(
        "ablations",
        None,
        "Of mean, zero, resample and counterfactual, or all: prunes under each, and judges each circuit "
        "under all of them.",
    )


def main() -> None:
    """The command."""
    prune = _with_flags(setting_flags.run_config(launching.workdir()).prune)
    run = load_workdir(launching.workdir(), launching.store())
    tasks = tasks_of(prune.tasks)
    if flags.FLAGS.ablations is not None:
        rows = compare_ablations(run, tasks, prune, flags.FLAGS.ablations)
        launching.report(rows, run.folder / filenames.ABLATIONS)
        return
    launching.report(pruning_table(prune_tasks(run, tasks, prune)), run.folder / filenames.PRUNE)


def _with_flags(prune: PruneConfig) -> PruneConfig:
    """The settings with those that --tasks, --trials and --seeds override."""
    given = flags.FLAGS
    if given.tasks is not None:
        names = tuple(TASKS) if given.tasks == ["all"] else tuple(given.tasks)
        prune = dataclasses.replace(prune, tasks=names)
    if given.trials is not None:
        prune = dataclasses.replace(prune, trials=given.trials)
    return prune if given.seeds is None else dataclasses.replace(prune, seeds=given.seeds)

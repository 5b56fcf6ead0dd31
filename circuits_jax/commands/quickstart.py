"""From Python source to readable circuits in one go: corpus, training, pruning, page.

    python -m circuits_jax quickstart

A second call with the same workdir reuses what is finished and goes on with the rest.
"""

import time

from circuits_jax.commands import launching, setting_flags
from circuits_jax.runs.pages import write_pages
from circuits_jax.runs.pruning import prune_tasks, pruning_table, tasks_of
from circuits_jax.runs.training import count_parameters, train
from circuits_jax.sparsity.report import summarize_sparsity
from circuits_jax.storage import filenames
from circuits_jax.training.metrics import read_metrics


def define_flags() -> None:
    """The flags of this command."""
    launching.define_workdir()
    launching.define_store()
    setting_flags.define_config()


def main() -> None:
    """The command."""
    began = time.perf_counter()
    config = setting_flags.read_config()
    run = train(config, launching.workdir())
    outcomes = prune_tasks(run, tasks_of(config.prune.tasks), config.prune)
    last = {key: value for row in read_metrics(run.folder) for key, value in row.items()}
    logged = {
        "validation loss": "validation_loss",
        "bits per byte": "validation_bits_per_byte",
        "L0": "l0",
        "steps": "step",
    }
    summary = {
        **{name: last[key] for name, key in logged.items() if key in last},  # lines may be damaged
        "parameters": count_parameters(run.model),
        "files": run.corpus.files,
        "skipped files": run.corpus.skipped,
        "tokens": run.corpus.tokens,
    }
    page = write_pages(run, outcomes, summary)
    print(summarize_sparsity(run.model.params))
    seconds = {"seconds of this call": round(time.perf_counter() - began, 1)}
    launching.report(pruning_table(outcomes), run.folder / filenames.QUICKSTART, summary | seconds)
    print(f"page: {page}")

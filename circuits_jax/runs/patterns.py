"""How often the training text of a run decides what tasks ask."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from circuits_jax.runs.corpora import open_corpus
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.tables import Row
from circuits_jax.tasks import Task
from circuits_jax.tasks.frequency import Frequencies, pattern_frequencies
from circuits_jax.training.workdir import load_config


def pattern_table(
    workdir: Path, tasks: Sequence[Task], store: str | Path | None = None
) -> tuple[list[Row], Row]:
    """(one row a task that has patterns, what was read).

    The rows say how often, per million tokens, the place of answer A and that of answer B occur in the real
    code and in the generated programs of the run's training windows; where the places look alike, that of A
    is either.  Windows without one of the two kinds have no columns of it.

    Args:
      workdir: Of a run; no checkpoint is needed.
      tasks: What is asked.
      store: The folder that its corpus lies in, if that was shared and has moved.

    Raises:
      UserError: if there is no run, its corpus is missing or damaged, or none of the tasks has patterns.
    """
    if not any(task.patterns for task in tasks):
        raise ConfigError(
            f"{', '.join(task.name for task in tasks)} has no patterns to look for in training text; give "
            "the Task its patterns, or choose others with --tasks"
        )
    config = load_config(workdir)
    if store is not None:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, store=str(store)))
    corpus = open_corpus(config, workdir)
    code, programs = pattern_frequencies(tasks, corpus.train, corpus.tokenizer)
    generated = corpus.train.counts["generated"]
    rows = [
        {"task": task.name, **_columns("code", code, task), **_columns("programs", programs, task)}
        for task in tasks
        if task.patterns
    ]
    summary: Row = {
        "corpus": corpus.hash,
        "windows of code": len(corpus.train) - generated,
        "windows of generated programs": generated,
    }
    if generated:
        summary["grammar"] = config.data.grammar
    return rows, summary


def _columns(part: str, found: Frequencies, task: Task) -> Row:
    return {f"{part} {role}": value for role, value in zip("AB", found.get(task.name, ()), strict=False)}

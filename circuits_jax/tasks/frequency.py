"""How often text decides what a task asks: the task's patterns, counted in windows of training."""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from circuits_jax.data.windows import Windows
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.tasks.task import Task

MILLION = 10**6
COUNTED = 2**16  # windows of a part that patterns are looked for in

Frequencies = dict[str, tuple[float, ...]]
"""task -> how often each of its patterns is found, per million tokens"""


def count_patterns(task: Task, text: str) -> tuple[int, ...]:
    """In how many places of `text` each of the task's patterns is found."""
    return tuple(sum(1 for _ in re.finditer(pattern, text, re.MULTILINE)) for pattern in task.patterns)


def pattern_frequencies(
    tasks: Sequence[Task], windows: Windows, tokenizer: Tokenizer
) -> tuple[Frequencies, Frequencies]:
    """How often the patterns of tasks occur in training windows: in the real code, in generated programs.

    A window is read as a model reads it: what stands in another window, or in another document of the same
    one, is not seen.  Of each part at most COUNTED windows are read, evenly taken.  A part without windows
    has no frequencies.

    Args:
      tasks: Those without patterns are left out.
      windows: Of training.
      tokenizer: Of the windows.
    """
    real = len(windows) - windows.counts["generated"]
    asked = [task for task in tasks if task.patterns]
    parts = ((0, real), (real, len(windows)))
    code, programs = (_frequencies(asked, windows, tokenizer, *part) for part in parts)
    return code, programs


def _frequencies(
    tasks: Sequence[Task], windows: Windows, tokenizer: Tokenizer, start: int, stop: int
) -> Frequencies:
    if start == stop:
        return {}
    rows = windows.rows(np.linspace(start, stop - 1, min(stop - start, COUNTED)).astype(int))
    counts = {task.name: np.zeros(len(task.patterns), int) for task in tasks}
    for text in _documents(rows, tokenizer):
        for task in tasks:
            counts[task.name] += count_patterns(task, text)
    return {name: tuple((found * MILLION / rows.size).tolist()) for name, found in counts.items()}


def _documents(rows: np.ndarray, tokenizer: Tokenizer) -> Iterator[str]:
    """The text of each document's part in each row of tokens."""
    for row in rows:
        for part in np.split(row, np.flatnonzero(row == tokenizer.eot)):
            yield tokenizer.decode(part.tolist())

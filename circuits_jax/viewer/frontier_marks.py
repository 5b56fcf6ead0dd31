"""What a picture of a frontier shows, from its points: a mark a model, and one a size with seeds averaged.

Sizes of circuits are geometric means over the tasks that every model shown has learnt.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

Points = Sequence[Mapping[str, Any]]  # rows of "points" in frontier.json


@dataclasses.dataclass(frozen=True)
class ModelMark:
    """One model.

    Attributes:
      name: Of the model.
      loss: Its validation loss.
      count: Geometric mean over tasks of the sizes of its circuits.
      missed: Tasks of them whose circuit misses its target, which counts as the whole model.
      address: Of its circuits' pages, relative to the picture's page; None if there are none.
    """

    name: str
    loss: float
    count: float
    missed: tuple[str, ...]
    address: str | None


@dataclasses.dataclass(frozen=True)
class SizeMark:
    """One size of a series, seeds averaged: the loss, and the logarithm of the count.

    Attributes:
      label: The size in words.
      loss, count: The averages.
      losses, counts: Lowest and highest of a seed.
      models: A mark for each seed.
    """

    label: str
    loss: float
    count: float
    losses: tuple[float, float]
    counts: tuple[float, float]
    models: tuple[ModelMark, ...]


@dataclasses.dataclass(frozen=True)
class SeriesMark:
    """One series: its sizes in order of loss."""

    name: str
    sizes: tuple[SizeMark, ...]


def shared_tasks(points: Points) -> list[str]:
    """Tasks that every model which did not diverge has learnt."""
    trained = [point for point in points if point["loss"] is not None]
    tasks = dict.fromkeys(task for point in trained for task in point["edges"])
    return [task for task in tasks if all(point["edges"].get(task) is not None for point in trained)]


def series_marks(points: Points, tasks: Sequence[str], what: str) -> list[SeriesMark]:
    """The marks of a picture, in the order in which series and sizes are listed.

    Args:
      points: Of one picture; those that diverged are left out.
      tasks: Learnt by all the others; without any there are no marks.
      what: "edges" or "nodes".
    """
    found = []
    shown = [point for point in points if point["loss"] is not None] if tasks else []
    for series in dict.fromkeys(point["series"] for point in shown):
        own = [point for point in shown if point["series"] == series]
        sizes = [
            _size_mark(size, [_model_mark(point, tasks, what) for point in own if point["size"] == size])
            for size in dict.fromkeys(point["size"] for point in own)
        ]
        found.append(SeriesMark(series, tuple(sorted(sizes, key=lambda size: size.loss))))
    return found


def geometric_mean(values: Sequence[float]) -> float:
    """Of counts, where 0 counts as 1."""
    return math.exp(sum(math.log(max(value, 1)) for value in values) / len(values))


def _model_mark(point: Mapping[str, Any], tasks: Sequence[str], what: str) -> ModelMark:
    count = geometric_mean([point[what][task] for task in tasks])
    missed = tuple(task for task in tasks if task in point["missed"])
    return ModelMark(point["name"], point["loss"], count, missed, point["pages"])


def _size_mark(label: str, models: Sequence[ModelMark]) -> SizeMark:
    losses, counts = [mark.loss for mark in models], [mark.count for mark in models]
    return SizeMark(
        label,
        sum(losses) / len(losses),
        geometric_mean(counts),
        (min(losses), max(losses)),
        (min(counts), max(counts)),
        tuple(models),
    )

"""How many times smaller are the circuits of one series of models than those of another, at equal loss?

Pure numpy and scipy (docs/frontier.md, "The ratio").  A series is models of several sizes, each with several
seeds.  The logarithm of a circuit's size is linear in the loss between neighbouring sizes; beyond a series'
own losses nothing is said.

Letters in shapes: S sizes of a series, T tasks.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class MeasuredModel:
    """One trained and pruned model.

    Attributes:
      name: Of the model.
      size: Name of its size in the series.
      seed: Of its training.
      loss: Validation loss, in nats a token; None for a model that diverged.
      counts: {task: edges (or nodes) of its circuit, or None for a task that it has not learnt}.
    """

    name: str
    size: str
    seed: int
    loss: float | None
    counts: Mapping[str, float | None]


@dataclasses.dataclass(frozen=True)
class LossCurve:
    """The sizes of a series in order of loss.

    Attributes:
      losses: Increasing, float [S].
      logs: Natural logarithms of the circuits' sizes, float [T, S].
    """

    losses: np.ndarray
    logs: np.ndarray

    def at(self, loss: np.ndarray) -> np.ndarray:
        """Interpolated logarithms [T, len(loss)]; every loss must lie between the ends."""
        return np.array([np.interp(loss, self.losses, each) for each in self.logs])


@dataclasses.dataclass(frozen=True)
class TaskMean:
    """A geometric mean over tasks, with Student's t interval of the logarithm; None where there is none."""

    value: float | None
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True)
class MatchedRatio:
    """Sizes of circuits, those of one series divided by those of another, at equal loss.

    Attributes:
      value, low, high: The geometric mean over tasks and its interval over tasks; None where nothing can be
        said, and the interval also where there is one task.
      tasks: Those that every model of both series has learnt.
      seeds: Of models of both series.
      losses: The losses that both series reach, lowest and highest; None if there are none.
      by_task: {task: ratio}.
      by_loss: (loss, ratio) at every loss where either series has a size.
      by_seed: {seed: the ratio of models of that seed alone, or None where their losses do not overlap}.
      why: Why there is no value, in words; None where there is one.
    """

    value: float | None
    low: float | None
    high: float | None
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    losses: tuple[float, float] | None
    by_task: Mapping[str, float]
    by_loss: Sequence[tuple[float, float]]
    by_seed: Mapping[int, float | None]
    why: str | None


def learnt_by_all(models: Sequence[MeasuredModel]) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """Tasks that every model has learnt, and {other task: the models that have not}.

    Models that diverged do not count.
    """
    models = [model for model in models if model.loss is not None]
    lacking = {
        task: [model.name for model in models if model.counts.get(task) is None]
        for task in dict.fromkeys(task for model in models for task in model.counts)
    }
    shared = tuple(task for task, names in lacking.items() if not names)
    return shared, {task: names for task, names in lacking.items() if names}


def loss_curve(models: Sequence[MeasuredModel], tasks: Sequence[str]) -> LossCurve:
    """A series' curve, seeds averaged first: of each size the mean loss and the mean logarithm over seeds.

    Sizes of equal loss are one point.  A circuit without an edge counts as one of one edge.

    Args:
      models: Of one series, none diverged, one at least.
      tasks: That all of them have learnt.
    """
    sizes: dict[str, list[MeasuredModel]] = {}
    for model in models:
        sizes.setdefault(model.size, []).append(model)
    losses = np.array([np.mean([model.loss for model in size]) for size in sizes.values()])
    logs = np.array([[_mean_log(size, task) for size in sizes.values()] for task in tasks])
    logs = logs.reshape(len(tasks), len(losses))
    distinct, place = np.unique(losses, return_inverse=True)
    merged = [[each[place == i].mean() for i in range(len(distinct))] for each in logs]
    return LossCurve(distinct, np.array(merged).reshape(len(tasks), len(distinct)))


def of_shared_seeds(
    larger: Sequence[MeasuredModel], smaller: Sequence[MeasuredModel]
) -> tuple[list[MeasuredModel], list[MeasuredModel]]:
    """The models of both series that are compared: none that diverged, and of the seeds that both have.

    Where one series has more seeds, the others say nothing of the difference.  Without any seed in common all
    are compared.
    """
    larger, smaller = ([m for m in models if m.loss is not None] for models in (larger, smaller))
    seeds = {m.seed for m in larger} & {m.seed for m in smaller}
    if not seeds:
        return larger, smaller
    return [m for m in larger if m.seed in seeds], [m for m in smaller if m.seed in seeds]


def matched_ratio(
    larger: Sequence[MeasuredModel], smaller: Sequence[MeasuredModel], confidence: float
) -> MatchedRatio:
    """Sizes of the circuits of `larger` divided by those of `smaller`, at equal loss.

    The logarithm of each task's ratio is averaged over the losses that both series reach, all alike.  Which
    models count says `of_shared_seeds`.

    Args:
      larger, smaller: Models of the two series.
      confidence: Of the interval, in (0, 1).
    """
    larger, smaller = of_shared_seeds(larger, smaller)
    seeds = tuple(sorted({m.seed for m in larger} & {m.seed for m in smaller}))
    tasks, _ = learnt_by_all([*larger, *smaller])
    why = _lack(larger, smaller, tasks)
    if why is not None:
        return MatchedRatio(None, None, None, tasks, seeds, None, {}, (), dict.fromkeys(seeds), why)
    curves = loss_curve(larger, tasks), loss_curve(smaller, tasks)
    losses = overlap(*curves)
    if losses is None:
        ends = [f"{curve.losses[0]:.3f} to {curve.losses[-1]:.3f}" for curve in curves]
        why = f"the losses do not overlap: {ends[0]} and {ends[1]}, and nothing is extrapolated"
        return MatchedRatio(None, None, None, tasks, seeds, None, {}, (), dict.fromkeys(seeds), why)
    logs = log_ratios(*curves, losses)
    found = task_mean(logs, confidence)
    places = _breakpoints(*curves, losses)
    shown = np.exp((curves[0].at(places) - curves[1].at(places)).mean(axis=0))
    return MatchedRatio(
        found.value,
        found.low,
        found.high,
        tasks,
        seeds,
        losses,
        {task: math.exp(log) for task, log in zip(tasks, logs, strict=True)},
        tuple(zip(places.tolist(), shown.tolist(), strict=True)),
        {seed: _of_seed(larger, smaller, tasks, seed) for seed in seeds},
        None,
    )


def ratios_where_learnt(
    larger: Sequence[MeasuredModel], smaller: Sequence[MeasuredModel]
) -> dict[str, tuple[float, tuple[float, float]]]:
    """{task: (its ratio, the losses it is a mean over)}, each task by the models that have learnt it.

    More tasks have such a ratio than are learnt by all.  But each is of other models: where only the better
    ones of a series have learnt a task, it is their circuits that are compared.

    Args:
      larger, smaller: Models of the two series; which count says `of_shared_seeds`.
    """
    larger, smaller = of_shared_seeds(larger, smaller)
    found = {}
    for task in dict.fromkeys(task for model in (*larger, *smaller) for task in model.counts):
        able = [[m for m in models if m.counts.get(task) is not None] for models in (larger, smaller)]
        if not all(able):
            continue
        curves = [loss_curve(models, [task]) for models in able]
        losses = overlap(curves[0], curves[1])
        if losses is not None:
            found[task] = (math.exp(float(log_ratios(curves[0], curves[1], losses)[0])), losses)
    return found


def overlap(one: LossCurve, other: LossCurve) -> tuple[float, float] | None:
    """The lowest and the highest loss that both curves reach; None if they reach none."""
    low, high = max(one.losses[0], other.losses[0]), min(one.losses[-1], other.losses[-1])
    return (float(low), float(high)) if low <= high else None


def log_ratios(larger: LossCurve, smaller: LossCurve, losses: tuple[float, float]) -> np.ndarray:
    """Mean over the `losses` from low to high of the curves' difference in logarithm, float [T]: exact, since
    it is linear between the sizes of either."""
    places = _breakpoints(larger, smaller, losses)
    difference = larger.at(places) - smaller.at(places)
    if len(places) == 1:
        return difference[:, 0]
    return np.trapezoid(difference, places, axis=1) / (places[-1] - places[0])


def series_trend(models: Sequence[MeasuredModel], confidence: float) -> tuple[float, TaskMean] | None:
    """What the last size of a series has beside its first: (its loss minus that one's, and the size of its
    circuits divided by that one's circuits); None for fewer than two sizes.

    Args:
      models: Of the series, its sizes in order.
      confidence: Of the interval over tasks that all its models have learnt.
    """
    models = [model for model in models if model.loss is not None]
    sizes = list(dict.fromkeys(model.size for model in models))
    if len(sizes) < 2:
        return None
    tasks, _ = learnt_by_all(models)
    first, last = (
        loss_curve([model for model in models if model.size == size], tasks) for size in (sizes[0], sizes[-1])
    )
    change = float(last.losses[0] - first.losses[0])
    return change, task_mean((last.logs - first.logs)[:, 0], confidence)


def task_mean(logs: Sequence[float] | np.ndarray, confidence: float) -> TaskMean:
    """exp of the mean of `logs`, one a task, and of the ends of Student's t interval of that mean."""
    from scipy import stats  # only here: it is slow to import

    values = np.asarray(logs, np.float64)
    if not len(values):
        return TaskMean(None, None, None)
    mean = float(values.mean())
    if len(values) == 1:
        return TaskMean(math.exp(mean), None, None)
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    t = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1))
    return TaskMean(*(math.exp(mean + sign * t * error) for sign in (0, -1, 1)))


def _lack(
    larger: Sequence[MeasuredModel], smaller: Sequence[MeasuredModel], tasks: Sequence[str]
) -> str | None:
    """Why two series cannot be compared, whatever their losses are."""
    if not larger or not smaller:
        return "one of the two series has no finished model"
    return None if tasks else "no task is learnt by every model of both series"


def _of_seed(
    larger: Sequence[MeasuredModel], smaller: Sequence[MeasuredModel], tasks: Sequence[str], seed: int
) -> float | None:
    """The ratio by models of one seed alone."""
    curves = [loss_curve([m for m in models if m.seed == seed], tasks) for models in (larger, smaller)]
    losses = overlap(*curves)
    return None if losses is None else math.exp(float(log_ratios(curves[0], curves[1], losses).mean()))


def _mean_log(models: Sequence[MeasuredModel], task: str) -> float:
    return float(np.mean([math.log(max(model.counts[task] or 0, 1)) for model in models]))


def _breakpoints(one: LossCurve, other: LossCurve, losses: tuple[float, float]) -> np.ndarray:
    """The ends, and the losses between them where either curve has a size, increasing."""
    low, high = losses
    inner = np.concatenate([one.losses, other.losses])
    return np.unique([low, high, *inner[(inner > low) & (inner < high)]])

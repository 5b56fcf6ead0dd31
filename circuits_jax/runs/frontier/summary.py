"""`frontier.json`: the points measured so far, and what they say of each other (docs/frontier.md)."""

import dataclasses
import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from typing import Any

from circuits_jax.config import Config, FrontierConfig, to_dict
from circuits_jax.runs.frontier.measure import best_rate, measured, trials
from circuits_jax.runs.frontier.points import FrontierPoint, middle
from circuits_jax.runs.frontier.ratio import (
    MatchedRatio,
    MeasuredModel,
    learnt_by_all,
    matched_ratio,
    of_shared_seeds,
    ratios_where_learnt,
    series_trend,
    task_mean,
)
from circuits_jax.runs.listed_runs import tokens_of
from circuits_jax.runs.pruning import tasks_of
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.tables import Report

FORMAT, VERSION = "circuits_jax.frontier", 1
COUNTS = ("edges", "nodes")
NO_HEADLINE = "frontier.compare names no two series"


def summarize(config: Config, points: Sequence[FrontierPoint]) -> Report:
    """What `frontier.json` holds.

    Args:
      config: With the section `frontier`.
      points: Its whole list; those that are not measured yet are named as missing.

    Raises:
      ConfigError: if measured models have different corpora or tokenizers.
    """
    found = {point: result for point in points if (result := measured(point)) is not None}
    check_one_corpus(found)
    rows = {point: point_row(point, result) for point, result in found.items()}
    asked = config.frontier
    comparisons = [_comparison(rows, larger, smaller, asked.confidence) for larger, smaller in asked.pairs]
    headline = asked.pairs[0] if asked.pairs else tuple(dict.fromkeys(point.series for point in points))
    ratio = (
        comparisons[0]["edges"] if comparisons else _ratio_report(_nothing(NO_HEADLINE), [], asked.confidence)
    )
    return {
        "format": FORMAT,
        "version": VERSION,
        "ratio": ratio,
        "points": [row for point, row in rows.items() if point.series in headline],
        "other_points": [row for point, row in rows.items() if point.series not in headline],
        "headline": list(asked.pairs[0]) if asked.pairs else None,
        "comparisons": comparisons,
        "trends": _trends(rows, points, asked.confidence),
        "tuning": _tuning(points, asked),
        "missing": [point.name for point in points if point not in found],
        "learnt": {name: _learnt_in(rows, name) for name in dict.fromkeys(p.series for p in points)},
        **_circumstances(config, points[0], list(found.values())),
    }


def point_row(point: FrontierPoint, result: Mapping[str, Any]) -> Report:
    """One point as `frontier.json` has it: {"kind", "seed", "loss", "edges", "nodes", ...}.

    A circuit that misses the target counts as all edges, and all nodes, of its model, and its task is among
    "missed".  A task that the model has not learnt has None.  Circuits that hold it on select pairs and not
    on test pairs count as they are, and are among "missed_on_test".
    """
    target, tasks = point.config.prune.target, result["tasks"]
    if result["diverged"] is not None:
        names = [task.name for task in tasks_of(point.config.prune.tasks)]
        tasks = {name: {"learnt": False, "why": "the model diverged"} for name in names}
    return {
        "name": point.name,
        "kind": point.kind,
        "series": point.series,
        "size": point.size,
        "seed": point.seed,
        "loss": result["loss"],
        **{what: {task: _counted(of, what) for task, of in tasks.items()} for what in COUNTS},
        "missed": [task for task, of in tasks.items() if of["learnt"] and not of["met"]],
        "missed_on_test": [
            task for task, of in tasks.items() if of["learnt"] and of["met"] and of["test_loss"] > target
        ],
        "not_learnt": {task: of["why"] for task, of in tasks.items() if not of["learnt"]},
        "diverged": result["diverged"],
        **{key: result.get(key) for key in _TOLD},
        "found": {task: of for task, of in tasks.items() if of["learnt"]},
    }


_TOLD = (
    "bits_per_byte", "learning_rate", "parameters", "nonzeros", "all_edges", "all_nodes", "pages",
    "training_hours", "pruning_hours", "model", "folder",
)  # fmt: skip


def check_one_corpus(found: Mapping[FrontierPoint, Mapping[str, Any]]) -> None:
    """Raises ConfigError if two measured models were not trained on one corpus with one tokenizer."""
    trained = {point: result for point, result in found.items() if result["diverged"] is None}
    for what in ("corpus", "tokenizer"):
        first: dict[str, FrontierPoint] = {}
        for point, result in trained.items():
            first.setdefault(result[what], point)
        if len(first) > 1:
            one, other = list(first.values())[:2]
            hashes = ", ".join(list(first)[:2])
            raise ConfigError(
                f"{one.name!r} and {other.name!r} have different {what} hashes ({hashes}): their losses are "
                f"not comparable; remove {other.result} and its model, and measure it anew"
            )


def _counted(of: Mapping[str, Any], what: str) -> int | None:
    return of[what] if of["learnt"] else None


def _models(rows: Mapping[FrontierPoint, Report], series: str, what: str) -> list[MeasuredModel]:
    return [
        MeasuredModel(row["name"], row["size"], row["seed"], row["loss"], row[what])
        for point, row in rows.items()
        if point.series == series
    ]


def _comparison(rows: Mapping[FrontierPoint, Report], larger: str, smaller: str, confidence: float) -> Report:
    """Two series: their ratio in edges and in nodes, and the tasks that some model of them has not learnt."""
    found: Report = {"larger": larger, "smaller": smaller}
    for what in COUNTS:
        series = _models(rows, larger, what), _models(rows, smaller, what)
        compared = [model for models in of_shared_seeds(*series) for model in models]
        _, found["left_out"] = learnt_by_all(compared)
        names = {model.name for model in compared}
        of = [row for row in rows.values() if row["name"] in names]
        found[what] = _ratio_report(matched_ratio(*series, confidence), of, confidence)
        each = ratios_where_learnt(*series)
        mean = task_mean([math.log(ratio) for ratio, _ in each.values()], confidence)
        found[what]["where_learnt"] = {
            **dataclasses.asdict(mean),
            "by_task": {task: ratio for task, (ratio, _) in each.items()},
            "losses": {task: list(losses) for task, (_, losses) in each.items()},
        }
    return found


def _ratio_report(ratio: MatchedRatio, rows: Sequence[Report], confidence: float) -> Report:
    """As JSON, with the circuits that miss their target among its tasks, on select pairs or on test pairs,
    what it is without those tasks, and the spread over seeds."""
    of_seeds = [value for value in ratio.by_seed.values() if value is not None]

    def misses(what: str) -> list[Report]:
        return [
            {"task": task, "model": row["name"]} for task in ratio.tasks for row in rows if task in row[what]
        ]

    def without(missed: Sequence[Report]) -> Report:
        kept = [task for task in ratio.by_task if task not in {each["task"] for each in missed}]
        alone = task_mean([math.log(ratio.by_task[task]) for task in kept], confidence)
        return {**dataclasses.asdict(alone), "tasks": kept}

    missed, on_test = misses("missed"), misses("missed_on_test")
    return {
        "value": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
        "tasks": list(ratio.tasks),
        "seeds": list(ratio.seeds),
        "why": ratio.why,
        "losses": None if ratio.losses is None else list(ratio.losses),
        "by_task": dict(ratio.by_task),
        "by_loss": [list(each) for each in ratio.by_loss],
        "by_seed": {str(seed): value for seed, value in ratio.by_seed.items()},
        "lowest_seed": min(of_seeds, default=None),
        "highest_seed": max(of_seeds, default=None),
        "missed": missed,
        "without_missed": without(missed),
        "missed_on_test": on_test,
        "held_on_test": without([*missed, *on_test]),
    }


def _nothing(why: str) -> MatchedRatio:
    return MatchedRatio(None, None, None, (), (), None, {}, (), {}, why)


def _trends(
    rows: Mapping[FrontierPoint, Report], points: Sequence[FrontierPoint], confidence: float
) -> list[Report]:
    """What the last size of each series has beside its first."""
    found = []
    for series in dict.fromkeys(point.series for point in points):
        sizes = list(dict.fromkeys(point.size for point in points if point.series == series))
        models = [model for model in _models(rows, series, COUNTS[0]) if model.loss is not None]
        models.sort(key=lambda model: sizes.index(model.size))
        trend = series_trend(models, confidence)
        if trend is not None:
            loss, edges = trend
            named = {"series": series, "first": models[0].size, "last": models[-1].size, "loss": loss}
            found.append(named | {"edges": dataclasses.asdict(edges)})
    return found


def _tuning(points: Sequence[FrontierPoint], asked: FrontierConfig) -> Report:
    """The grid of learning rates, and how each did."""
    series: Report = {}
    for name in dict.fromkeys(point.series for point in points):
        alike = [point for point in points if point.series == name]
        if not (tried := middle(alike)).chooses:
            series[name] = {"on": None, "losses": {}, "chosen": tried.given_rate, "at_edge": False}
            continue
        losses = {rate: trial["loss"] for rate, trial in trials(alike).items() if trial is not None}
        chosen = best_rate(losses) if len(losses) == len(tried.rates) else None
        edge = chosen in (min(tried.rates), max(tried.rates))
        told = {f"{rate:g}": loss for rate, loss in losses.items()}
        series[name] = {"on": tried.name, "losses": told, "chosen": chosen, "at_edge": edge}
    return {"rates": list(asked.learning_rates), "series": series}


def _learnt_in(rows: Mapping[FrontierPoint, Report], series: str) -> dict[str, int]:
    """{task: how many models of a series have learnt it}."""
    of = [row for point, row in rows.items() if point.series == series and row["diverged"] is None]
    tasks = dict.fromkeys(task for row in of for task in row["edges"])
    return {task: sum(row["edges"].get(task) is not None for row in of) for task in tasks}


def _circumstances(config: Config, point: FrontierPoint, results: Sequence[Mapping[str, Any]]) -> Report:
    """What all points have in common, and what they took."""
    whole = to_dict(point.config)
    return {
        "ablation": point.config.prune.ablation,
        "target": point.config.prune.target,
        "tokens": tokens_of(point.config),
        **{
            what: next((of[what] for of in results if of.get(what)), None) for what in ("corpus", "tokenizer")
        },
        "hours": {
            what: sum(of.get(f"{what}_hours") or 0.0 for of in results) for what in ("training", "pruning")
        },
        "pruning": whole["prune"],
        "training": {section: whole[section] for section in ("optimizer", "train", "sparsity")},
        "frontier": to_dict(config.frontier),
        "versions": {name: importlib.metadata.version(name) for name in ("circuits_jax", "jax", "optax")},
    }

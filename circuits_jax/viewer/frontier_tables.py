"""The tables and sentences of a frontier, for its page and its command (docs/frontier.md)."""

from collections.abc import Mapping, Sequence
from typing import Any

from circuits_jax.storage.tables import Row
from circuits_jax.viewer.frontier_marks import geometric_mean, shared_tasks

NARROW = 0.01  # nats; losses that overlap by less are told to


def point_rows(report: Mapping[str, Any]) -> list[Row]:
    """One row a measured model; sizes are geometric means over tasks that all of its picture have learnt."""
    rows = []
    for points in (report["points"], report["other_points"]):
        tasks = shared_tasks([*report["points"], *points])
        for point in points:
            rows.append(_point_row(point, tasks))
    return rows


def comparison_rows(report: Mapping[str, Any]) -> list[Row]:
    """One row a comparison, in edges and in nodes."""
    rows = []
    for each in report["comparisons"]:
        for what in ("edges", "nodes"):
            ratio = each[what]
            row: Row = {"circuits of": f"{each['larger']} / {each['smaller']}", "counted in": what}
            if ratio["value"] is None:
                row |= {"ratio": "none", "why": ratio["why"]}
            else:
                row |= {
                    "ratio": figure(ratio["value"]),
                    "interval over tasks": interval(ratio),
                    "over seeds": f"{figure(ratio['lowest_seed'])} to {figure(ratio['highest_seed'])}",
                    "losses": " to ".join(f"{loss:.3f}" for loss in ratio["losses"]),
                    "tasks": len(ratio["tasks"]),
                    "seeds": len(ratio["seeds"]),
                    "circuits that missed": len(ratio["missed"]),
                    "that missed on test pairs alone": len(ratio["missed_on_test"]),
                    "tasks that held on test pairs": _held(ratio),
                }
            row["each task by the models that learnt it"] = _learnt(ratio["where_learnt"])
            rows.append(row)
    return rows


def task_rows(report: Mapping[str, Any]) -> list[Row]:
    """One row a task: its ratio, and geometric means over seeds of its circuits' edges at every size."""
    points = [*report["points"], *report["other_points"]]
    tasks = dict.fromkeys(task for point in points for task in point["edges"])
    sizes = dict.fromkeys((point["series"], point["size"]) for point in points)
    rows = []
    for task in tasks:
        ratio = report["ratio"]["by_task"].get(task)
        row: Row = {"task": task, "ratio": "" if ratio is None else figure(ratio)}
        learnt = report["comparisons"][0]["edges"]["where_learnt"]["by_task"] if report["comparisons"] else {}
        row["by the models that learnt it"] = figure(learnt[task]) if task in learnt else ""
        for series, size in sizes:
            of = [p for p in points if (p["series"], p["size"]) == (series, size) and p["loss"] is not None]
            row[f"{series}, {size}"] = _cell(of, task)
        rows.append(row)
    return rows


def held_out_rows(report: Mapping[str, Any]) -> list[Row]:
    """One row a task: at every size the losses of its circuits on test pairs, which choose nothing."""
    points = [*report["points"], *report["other_points"]]
    tasks = dict.fromkeys(task for point in points for task in point["found"])
    sizes = dict.fromkeys((point["series"], point["size"]) for point in points)
    rows = []
    for task in tasks:
        row: Row = {"task": task}
        for series, size in sizes:
            of = [p for p in points if (p["series"], p["size"]) == (series, size)]
            losses = [f"{p['found'][task]['test_loss']:.3f}" for p in of if task in p["found"]]
            row[f"{series}, {size}"] = ", ".join(losses)
        rows.append(row)
    return rows


def tuning_rows(report: Mapping[str, Any]) -> list[Row]:
    """One row a series: the validation loss at each learning rate of the grid, and the one chosen."""
    rows = []
    for series, of in report["tuning"]["series"].items():
        row: Row = {"series": series, "tried on": of["on"] or "not tried: its rate is given"}
        for rate in report["tuning"]["rates"]:
            key = f"{rate:g}"
            known = key in of["losses"]
            loss = of["losses"].get(key)
            row[f"rate {key}"] = ("" if not known else "diverged") if loss is None else f"{loss:.3f}"
        row["chosen"] = "" if of["chosen"] is None else f"{of['chosen']:g}"
        if of["at_edge"]:
            row["remark"] = "at the edge of the grid"
        rows.append(row)
    return rows


def left_out_rows(report: Mapping[str, Any]) -> list[Row]:
    """Tasks that the headline leaves out, and which of its models have not learnt them."""
    if not report["comparisons"]:
        return []
    trained = sum(point["loss"] is not None for point in report["points"])
    return [
        {"task": task, "not learnt by": "any" if len(names) == trained else "; ".join(names)}
        for task, names in report["comparisons"][0]["left_out"].items()
    ]


def trend_rows(report: Mapping[str, Any]) -> list[Row]:
    """One row a series: its last size beside its first."""
    rows: list[Row] = []
    for each in report["trends"]:
        edges = each["edges"]["value"]
        row: Row = {"series": each["series"], "from": each["first"], "to": each["last"]}
        row["loss"] = f"{each['loss']:+.3f}"
        row["edges"] = "no task learnt by all" if edges is None else f"x {figure(edges)}"
        rows.append(row | {"interval over tasks": interval(each["edges"])})
    return rows


def headline(report: Mapping[str, Any]) -> str:
    """The result in a sentence."""
    ratio, names = report["ratio"], report["headline"]
    if ratio["value"] is None:
        return f"There is no ratio: {ratio['why']}."
    larger, smaller = names
    seeds = f"{figure(ratio['lowest_seed'])} to {figure(ratio['highest_seed'])} by single seeds"
    if ratio["lowest_seed"] is None:
        seeds = "no single seed's losses overlap"
    return (
        f"At equal validation loss ({ratio['losses'][0]:.3f} to {ratio['losses'][1]:.3f}) the circuits of "
        f"{larger} models have {figure(ratio['value'])} times as many edges as those of {smaller} models "
        f"({_percent(report)} interval over {len(ratio['tasks'])} tasks: {interval(ratio) or 'none'}; "
        f"{seeds})."
    )


def remarks(report: Mapping[str, Any]) -> list[str]:
    """What else there is to say of the headline, a sentence each."""
    said = []
    ratio = report["ratio"]
    if ratio["missed"]:
        of = {each["task"] for each in ratio["missed"]}
        said.append(
            "Circuits that miss their target and count as all edges of their models: "
            f"{len(ratio['missed'])}, of {', '.join(sorted(of))}."
        )
        met = ratio["without_missed"]
        if met["value"] is not None:
            said.append(
                f"Without these tasks the ratio is {figure(met['value'])} ({interval(met) or 'no interval'}; "
                f"{len(met['tasks'])} tasks)."
            )
    if ratio["missed_on_test"]:
        of = {each["task"] for each in ratio["missed_on_test"]}
        said.append(
            "Circuits that hold the target on select pairs, which chose them, and not on test pairs, and "
            f"count as they are: {len(ratio['missed_on_test'])}, of {', '.join(sorted(of))}. "
            f"By the tasks whose circuits all hold it on test pairs, too: {_held(ratio)}."
        )
    if report["comparisons"] and (learnt := ratio["where_learnt"])["value"] is not None:
        said.append(
            f"Each task by the models that have learnt it, whether or not all have: {_learnt(learnt)}. Such "
            "ratios are of other models for each task."
        )
    if ratio["losses"] is not None and (width := ratio["losses"][1] - ratio["losses"][0]) < NARROW:
        said.append(f"The losses of the two overlap by {width:.3f} nats only: the ratio is that of one loss.")
    if diverged := [p["name"] for p in (*report["points"], *report["other_points"]) if p["diverged"]]:
        said.append(f"Diverged, and left out: {'; '.join(diverged)}.")
    if report["missing"]:
        count = len(report["missing"])
        said.append(f"{count} of {count + _measured(report)} models are not measured yet.")
    return said


def _held(ratio: Mapping[str, Any]) -> str:
    """The ratio over tasks whose circuits all hold the target on select and on test pairs, in words."""
    return _over(ratio["held_on_test"], len(ratio["held_on_test"]["tasks"]))


def _learnt(learnt: Mapping[str, Any]) -> str:
    """The ratio over tasks of which some models of both series have learnt each, in words."""
    return _over(learnt, len(learnt["by_task"]))


def _over(mean: Mapping[str, Any], count: int) -> str:
    """A geometric mean over so many tasks, in words."""
    if mean["value"] is None:
        return "no task"
    tasks = f"{count} task" + ("s" if count > 1 else "")
    return f"{figure(mean['value'])} ({interval(mean) or 'no interval'}; {tasks})"


def interval(ratio: Mapping[str, Any]) -> str:
    """ "low to high", or nothing where there is none."""
    return "" if ratio["low"] is None else f"{figure(ratio['low'])} to {figure(ratio['high'])}"


def figure(value: float | None) -> str:
    """A ratio as people read it, of three digits."""
    if value is None:
        return "none"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _mean(counts: Sequence[float]) -> str:
    return f"{geometric_mean(counts):,.1f}" if counts else ""


def _percent(report: Mapping[str, Any]) -> str:
    return f"{100 * report['frontier']['confidence']:g} %"


def _measured(report: Mapping[str, Any]) -> int:
    return len(report["points"]) + len(report["other_points"])


def _point_row(point: Mapping[str, Any], tasks: Sequence[str]) -> Row:
    row: Row = {
        "series": point["series"],
        "size": point["size"],
        "seed": point["seed"],
        "weights": point["kind"],
        "nonzeros": point["nonzeros"],
        "rate": f"{point['learning_rate']:g}",
    }
    if point["loss"] is None:
        return row | {"loss": "diverged"}
    learnt = [task for task, edges in point["edges"].items() if edges is not None]
    row |= {"loss": f"{point['loss']:.3f}", "learnt": f"{len(learnt)} of {len(point['edges'])}"}
    for what in ("edges", "nodes"):
        row[f"{what}, mean"] = _mean([point[what][t] for t in tasks])
    hours = (point["training_hours"] or 0.0) + (point["pruning_hours"] or 0.0)
    return row | {"missed": len(point["missed"]), "minutes": round(60 * hours)}


def _cell(points: Sequence[Mapping[str, Any]], task: str) -> str:
    """Edges of a task's circuits at one size."""
    edges = [point["edges"].get(task) for point in points]
    counted = [each for each in edges if each is not None]
    if not counted:
        return "not learnt" if points else ""
    missed = sum(task in point["missed"] for point in points)
    text = _mean(counted)
    if missed:
        text += f", {missed} missed"
    return text if len(counted) == len(edges) else f"{text}, {len(edges) - len(counted)} not learnt"

"""The picture of a frontier as one HTML file: circuit size against loss, the ratio by task, tables.

It is the audit page's template and style (`page/audit.html`, `page/audit.css`) with a few rules of its own.
While models are missing, a browser that shows it reads it again every half minute.
"""

import html
import importlib.resources
import string
from collections.abc import Mapping, Sequence
from typing import Any

from circuits_jax.config import PruneConfig
from circuits_jax.config.identity import as_recorded
from circuits_jax.viewer import frontier_tables as tables
from circuits_jax.viewer.charts.ratios import RatioRow, ratio_chart
from circuits_jax.viewer.charts.sizes import DrawnRatio, size_chart
from circuits_jax.viewer.frontier_marks import Points, series_marks, shared_tasks

PAPER = 16.0  # times smaller, as the paper has it
_AGAIN = '<meta http-equiv="refresh" content="30">'


def build_frontier_page(title: str, report: Mapping[str, Any]) -> str:
    """The page, as a string that depends on nothing but the arguments.

    Args:
      title: Heading of the page.
      report: What `frontier.json` holds.
    """
    points, others = report["points"], report["other_points"]
    body = [_lead(report), _picture(report, points, "The headline", compared=True)]
    if others:
        body.append(_picture(report, [*points, *others], "Every series", compared=False))
    body += [_by_task(report), _tables(report), _circumstances(report)]
    page = string.Template(_file("audit.html")).substitute(
        title=html.escape(title),
        style=_file("audit.css") + _file("frontier.css"),
        note="Circuits of models of several sizes, against how well each model predicts code.",
        body="\n".join(body),
    )
    return page.replace("<title>", f"{_AGAIN}\n<title>", 1) if report["missing"] else page


def _lead(report: Mapping[str, Any]) -> str:
    said = [f'<p class="result">{html.escape(tables.headline(report))}</p>']
    said += [f'<p class="quiet">{html.escape(remark)}</p>' for remark in tables.remarks(report)]
    return "\n".join(said)


def _picture(report: Mapping[str, Any], points: Points, heading: str, compared: bool) -> str:
    """Edges and nodes of the circuits of some points against loss."""
    tasks = shared_tasks(points)
    figures = []
    for what in ("edges", "nodes"):
        marks = series_marks(points, tasks, what)
        if not marks:
            continue
        ratio = report["comparisons"][0][what] if compared and report["comparisons"] else None
        names = report["headline"] or []
        if ratio is not None:  # the arrow runs between the first two
            marks.sort(key=lambda mark: names.index(mark.name))
        drawn = None if ratio is None or ratio["value"] is None else _comparison(ratio)
        chart = size_chart(f"{heading}, {what}", marks, f"{what} of a circuit", drawn)
        figures.append(_figure(what.capitalize(), _caption(tasks, what, drawn), chart))
    if not figures:
        told = (
            "No model is measured yet." if not points else "No task is learnt by every model of the picture."
        )
        figures = [f"<p>{told}</p>"]
    return "\n".join([f"<section><h2>{heading}</h2>", '<div class="wide">', *figures, "</div></section>"])


def _comparison(ratio: Mapping[str, Any]) -> DrawnRatio:
    span = tables.interval(ratio)
    label = f"x {tables.figure(ratio['value'])}" + (f" ({span})" if span else "")
    return DrawnRatio(tuple(ratio["losses"]), label)


def _caption(tasks: Sequence[str], what: str, drawn: DrawnRatio | None) -> str:
    said = (
        f"Geometric mean of the {what} over the {len(tasks)} tasks that every model shown has learnt: "
        f"{', '.join(tasks)}. A small mark is a model and leads to its circuits; not filled, some of its "
        "circuits miss their target and count as the whole model. A large mark is a size with its seeds "
        "averaged, whiskers span the seeds. Lines are how sizes between are interpolated: straight in the "
        f"loss and the logarithm of the {what}."
    )
    if drawn is not None:
        said += (
            " Shaded: the losses that both reach. The ratio beside the arrow is the mean over those losses, "
            "with Student's t interval over tasks."
        )
    return said


def _by_task(report: Mapping[str, Any]) -> str:
    """The ratio of every task, and their mean with its interval."""
    if not report["ratio"]["by_task"]:
        return ""
    figures = []
    for what in ("edges", "nodes"):
        ratio = report["comparisons"][0][what]
        missed = {each["task"] for each in ratio["missed"]}
        rows = [
            RatioRow(
                task,
                value,
                filled=task not in missed,
                remark=", with circuits that miss their target" if task in missed else "",
            )
            for task, value in sorted(ratio["by_task"].items(), key=lambda item: item[1])
        ]
        rows.append(RatioRow("geometric mean", ratio["value"], ratio["low"], ratio["high"], kind="ours"))
        lines = [(1.0, "equal")] + ([(PAPER, "paper: about 16")] if what == "edges" else [])
        caption = (
            f"{what.capitalize()} of {report['headline'][0]} circuits divided by those of "
            f"{report['headline'][1]} ones at equal loss, seeds averaged. A ring: some of the task's "
            "circuits miss their target and count as the whole model."
        )
        figures.append(
            _figure(what.capitalize(), caption, ratio_chart(f"Ratio by task, {what}", rows, lines))
        )
    return "\n".join(
        ["<section><h2>The ratio by task</h2>", '<div class="plots">', *figures, "</div></section>"]
    )


def _tables(report: Mapping[str, Any]) -> str:
    points = [*report["points"], *report["other_points"]]
    parts = [
        "<section><h2>Models</h2>",
        _table(tables.point_rows(report), [point["pages"] for point in points]),
        '<p class="quiet">Means over the tasks that every model has learnt: of the headline where the model '
        "is one of its own, else of all models.</p></section>",
    ]
    shown = {
        "Comparisons": tables.comparison_rows(report),
        "First and last size": tables.trend_rows(report),
        "Edges by task": tables.task_rows(report),
        "Losses of the circuits on test pairs": tables.held_out_rows(report),
        "Tasks that the headline leaves out": tables.left_out_rows(report),
        "Learning rates": tables.tuning_rows(report),
    }
    for heading, rows in shown.items():
        if rows:
            parts.append(f"<section><h2>{heading}</h2>{_table(rows)}</section>")
    if report["missing"]:
        names = "".join(f"<li>{html.escape(name)}</li>" for name in report["missing"])
        parts.append(f"<section><h2>Not measured yet</h2><ul>{names}</ul></section>")
    return "\n".join(parts)


def _circumstances(report: Mapping[str, Any]) -> str:
    prune = report["pruning"]
    learnt = prune["learnt"]
    retries = f", {prune['retries']} stricter searches where a circuit misses" if prune["retries"] else ""
    both = " and on select pairs" if as_recorded(PruneConfig, prune)["hold_select"] else " alone"
    asked = f"at most {learnt:g}" if learnt is not None else "0.1 below chance"
    said = [
        f"Every model has seen {report['tokens']:,} tokens of one corpus "
        f"({report['corpus'] or 'not known yet'}) with one tokenizer.",
        f"Removed nodes are held by {report['ablation']} ablation.",
        f"A task counts as learnt where the full model's calibrated loss on select pairs is {asked}; its "
        f"circuit must hold {report['target']:g} on select pairs. What it does on test pairs is told, and "
        "decides nothing.",
        f"The same search for all: {prune['steps']} mask steps, {prune['trials']} settings, {prune['seeds']} "
        f"seeds{retries}; it holds the target on training pairs{both}, with a margin where it can.",
        f"Hours: {report['hours']['training']:.2f} of training, {report['hours']['pruning']:.2f} of pruning, "
        "without trials of learning rates.",
    ]
    items = "".join(f"<li>{html.escape(each)}</li>" for each in said)
    return f"<section><h2>Circumstances</h2><ul>{items}</ul></section>"


def _table(rows: Sequence[Mapping[str, Any]], links: Sequence[str | None] = ()) -> str:
    """Rows as an HTML table; the first cell of a row leads to the link of its place, if there is one."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = []
    for place, row in enumerate(rows):
        cells = [html.escape(_cell(row.get(column, ""))) for column in columns]
        if place < len(links) and links[place]:
            cells[0] = f'<a href="{html.escape(str(links[place]), quote=True)}">{cells[0]}</a>'
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _figure(heading: str, caption: str, svg: str) -> str:
    title, below = html.escape(heading), html.escape(caption)
    return f"<figure><h3>{title}</h3>{svg}<figcaption>{below}</figcaption></figure>"


def _file(name: str) -> str:
    return (importlib.resources.files("circuits_jax.viewer") / "page" / name).read_text(encoding="utf-8")

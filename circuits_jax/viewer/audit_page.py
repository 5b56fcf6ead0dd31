"""The faithfulness report as one HTML file, without scripts and without network.

Its template and style are `page/audit.html` and `page/audit.css`.
"""

import html
import importlib.resources
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from circuits_jax.circuits.full_model import GOOD
from circuits_jax.storage.tables import Report
from circuits_jax.tasks.metrics import CHANCE
from circuits_jax.viewer import control_plots, hypothesis_tables, size_plots
from circuits_jax.viewer.charts.bars import Bar, Line, bar_chart, scatter, show

# Right end of the loss axes: a little above chance.
LOSS = 0.8
# Templates in a table that is not folded, and characters of a prompt.
MOST_TEMPLATES, PROMPT = 24, 60


def build_audit_page(
    title: str, rows: Sequence[Mapping[str, Any]], reports: Mapping[str, Report], note: str = ""
) -> str:
    """The page, as a string that depends on nothing but the arguments.

    Args:
      title: Heading of the page.
      rows: The table at its top, one row a task: {column: text or number}.
      reports: Task -> its report, as `audit.json` has them under "tasks".
      note: A sentence below the heading.
    """
    body = [_table(rows, links=reports)]
    body += [_section(task, report) for task, report in reports.items()]
    return string.Template(_file("audit.html")).substitute(
        title=html.escape(title),
        style=_file("audit.css"),
        note=html.escape(note),
        body="\n".join(body),
    )


def _section(task: str, report: Report) -> str:
    verdict = report["verdict"]
    kind, close = verdict["verdict"].replace(" ", "-"), ", close" if verdict["close"] else ""
    parts = [
        f'<section id="{_anchor(task)}"><h2>{html.escape(task)} '
        f'<span class="verdict {kind}">{html.escape(verdict["verdict"])}{close}</span></h2>',
        f"<p>{html.escape(_sentence(report))}</p>",
        _criteria(verdict["criteria"]),
        '<div class="plots">',
        *(_figure(*each) for each in _plots(report)),
        "</div>",
        _templates(report["templates"]),
        _tests(report.get("tests")),
        _curves(report.get("curves")),
        _not_compared(report.get("not_compared")),
        _control_table(report),
        _natural(report["natural"]),
        _scores(report),
        "</section>",
    ]
    return "\n".join(parts)


def _sentence(report: Report) -> str:
    circuit, model, verdict = report["circuit"], report["model"], report["verdict"]
    size = f"{circuit['nodes']} nodes and {circuit['edges']} edges under {report['ablation']} ablation"
    judged = f"{size}, judged on {report['pairs']} pairs"
    text = f"{judged}. {_known(model)}"
    if (missed := circuit.get("missed")) is not None:
        text += (
            f". On the pairs that pruning chose by the circuit itself misses the target ({show(missed)}); "
            "beside its controls it counts as all edges of its model, as they do where they miss"
        )
    if verdict["failed"]:
        text += f". What decided against it: {', '.join(verdict['failed'])}"
    if verdict["close"]:
        text += f". Close, the interval crosses the bound: {', '.join(verdict['close'])}"
    return text + "."


def _known(model: Report) -> str:
    """What the full model knows of the task: the flag that pruning gave it, and its loss on test pairs."""
    tested = f"calibrated loss on test pairs {show(model['test']['calibrated_loss']['value'])}"
    if model["flag"] is None:
        return f"The circuit does not say what its full model knew of the task ({tested})"
    text = (
        f"The full model is {model['flag']} at this task, by the pairs that pruning chose by (calibrated "
        f"loss {show(model['select_loss'])}; {tested})"
    )
    if model["flag"] != GOOD:
        text += ": a mask can repair such a model, so the circuit explains less than its own loss says"
    return text


def _criteria(criteria: Iterable[Report]) -> str:
    rows = []
    for each in criteria:
        figure, bound = (
            each["figure"],
            f"{'at most' if each['at_most'] else 'at least'} {show(each['bound'])}",
        )
        undecided = "not measured" if figure is None else "too few draws"
        passed = {True: "yes", False: "no", None: undecided}[each["passed"]]
        row = {"question": each["name"], "measured": "", "interval": "", "asked": bound, "holds": passed}
        if figure is None:
            row["asked"] = ""
        else:
            row["measured"] = show(figure["value"])
            if figure["low"] != figure["high"]:
                row["interval"] = f"{show(figure['low'])} to {show(figure['high'])}"
            if not each["clear"]:
                row["close"] = "close"
        rows.append(row)
    return _table(rows)


Plot = tuple[str, str, str]  # heading, caption, SVG


def _plots(report: Report) -> list[Plot]:
    """The figures of one task."""
    bounds = {
        each["name"]: Line(each["bound"], show(each["bound"])) for each in report["verdict"]["criteria"]
    }
    chance = Line(CHANCE, "chance")
    enough, needed = bounds["sufficient"], bounds["necessary"]
    plots = [
        _enough(report, (enough, chance)),
        _needed(report, (needed, chance)),
        _swapped(report, (bounds["the answer ignores the rest"], bounds["the answer follows the circuit"])),
        _references(report["references"], (enough, needed, chance)),
        _completeness(report["completeness"]),
    ]
    if report["controls"] is not None:
        plots.append(_controls(report))
    return plots


def _enough(report: Report, lines: Sequence[Line]) -> Plot:
    circuit, base = report["circuit"], report["baselines"]
    bars = [
        _bar("the circuit alone", circuit["test"]["calibrated_loss"], "ours"),
        _bar("full model", report["model"]["test"]["calibrated_loss"], "model"),
        _bar("random nodes", base["random"]["sufficiency"]),
        _bar("random, matched per site", base["matched"]["sufficiency"]),
    ]
    if circuit["constant_competitors"] is not None:
        competing = circuit["constant_competitors"]["calibrated_loss"]
        bars.insert(1, _bar("rivals in AbsTopK at means", competing, "ours"))
    caption = "Test loss in nats with everything else removed. Ticks are single draws."
    return "Enough?", caption, bar_chart("Sufficiency", bars, LOSS, lines)


def _needed(report: Report, lines: Sequence[Line]) -> Plot:
    base = report["baselines"]
    bars = [
        _bar("without the circuit", report["references"][report["ablation"]]["necessity"], "ours"),
        _bar("without random nodes", base["random"]["necessity"]),
        _bar("without matched nodes", base["matched"]["necessity"]),
    ]
    caption = "Test loss of the model with only these nodes removed."
    return "Needed?", caption, bar_chart("Necessity", bars, LOSS, lines)


def _swapped(report: Report, lines: Sequence[Line]) -> Plot:
    base = report["baselines"]
    bars = [
        _bar("the circuit swapped", report["interchange"]["circuit"], "ours"),
        _bar("all other nodes swapped", report["interchange"]["outside"], "model"),
        _bar("random nodes swapped", base["random"]["interchange"]),
        _bar("matched nodes swapped", base["matched"]["interchange"]),
    ]
    caption = "Share of answers that flip when nodes take their values on the pair's other prompt."
    return "Does the answer follow it?", caption, bar_chart("Interchange", bars, 1.0, lines)


def _references(references: Report, lines: Sequence[Line]) -> Plot:
    bars = [
        _bar(f"{what}, {name}", references[name][figure], kind)
        for what, figure, kind in (("alone", "sufficiency", "ours"), ("without", "necessity", "other"))
        for name in references
    ]
    caption = (
        "Loss with removed nodes at their mean, at zero, or at their values on another pair's prompt "
        "(resample) or on the pair's other one (counterfactual)."
    )
    return "Other ways to remove", caption, bar_chart("Ablation references", bars, LOSS, lines)


def _completeness(report: Report) -> Plot:
    points = [(part["model"], part["circuit"], f"{part['removed']} removed") for part in report["parts"]]
    caption = (
        f"The same random parts of the circuit removed from both; mean distance {report['gap']:.3f} nats. "
        "On the diagonal the circuit loses what the model loses."
    )
    return (
        "Complete?",
        caption,
        scatter("Completeness", points, LOSS, "loss of the model", "loss of the circuit"),
    )


def _controls(report: Report) -> Plot:
    caption = (
        "Edges of what the same search finds where there is nothing to find, a dot a draw and a tick at the "
        "median. A ring misses the target and counts as all edges of its model."
    )
    return "Smaller than controls?", caption, control_plots.distributions(report)


def _control_table(report: Report) -> str:
    if report["controls"] is None:
        return ""
    said = html.escape(" ".join(control_plots.remarks(report)))
    return f'<h3>Controls</h3><p class="quiet">{said}</p>{_table(control_plots.table(report))}'


def _templates(rows: Sequence[Report]) -> str:
    """What each template's pairs give; nothing where a template has one pair."""
    if all(row["pairs"] == 1 for row in rows):
        return ""
    shown = [{**row, "prompt": row["prompt"][-PROMPT:]} for row in rows]
    caption = (
        "Means over the pairs of each test template: losses are calibrated, prompts are ends of the first."
    )
    table = _table(shown)
    if len(rows) > MOST_TEMPLATES:
        table = f"<details><summary>{len(rows)} templates</summary>{table}</details>"
    return f'<h3>By template</h3><p class="quiet">{caption}</p>{table}'


def _tests(tests: Report | None) -> str:
    """The tests with a p-value; nothing in reports of before."""
    if tests is None:
        return ""
    said = html.escape(" ".join(hypothesis_tables.remarks(tests)))
    tables = [hypothesis_tables.circuit_table(tests), hypothesis_tables.contrary_table(tests)]
    edges = hypothesis_tables.edge_table(tests)
    nulls = "".join(
        f"<li><b>{html.escape(a)}</b>: {html.escape(b)}</li>" for a, b in hypothesis_tables.nulls(tests)
    )
    folded = f"<details><summary>{len(edges)} edges</summary>{_table(edges)}</details>" if edges else ""
    return (
        f'<h3>Tests</h3><p class="quiet">{said} The nulls:</p><ul class="quiet">{nulls}</ul>'
        f"{''.join(map(_table, tables))}{folded}"
    )


def _curves(curves: Report | None) -> str:
    """Faithfulness against size; nothing in reports of before."""
    if curves is None:
        return ""
    charts = "".join(_figure(*chart) for chart in size_plots.charts(curves))
    said, rows = html.escape(" ".join(size_plots.remarks(curves))), size_plots.table(curves)
    table = _table(rows) if rows else ""
    return (
        f'<h3>Faithful at what size?</h3><p class="quiet">{said}</p><div class="plots">{charts}</div>{table}'
    )


def _not_compared(why: str | None) -> str:
    """Why there are neither tests nor curves; nothing where there are, or where nobody asked."""
    return f'<p class="quiet">Neither tests nor curves: {html.escape(why)}.</p>' if why else ""


def _natural(report: Report) -> str:
    if "why_not" in report:
        return f'<h3>On real code</h3><p class="quiet">Not judged: {html.escape(report["why_not"])}.</p>'
    rows = [
        {
            "": name,
            "accuracy": _interval(report[name]["accuracy"]),
            "calibrated": _interval(report[name]["calibrated_accuracy"]),
            "loss": _interval(report[name]["loss"]),
            "calibrated loss": _interval(report[name]["calibrated_loss"]),
        }
        for name in ("model", "circuit")
    ]
    where = f"{report['positions']} of the {report['found']} positions of the validation corpus"
    share = f"{report['second_answer']:.0%} of them by the second"
    caption = (
        f"{where} at which {report['condition']} and one of the two answers follows, {share}. "
        "The calibrations are those of the templates."
    )
    return f'<h3>On real code</h3><p class="quiet">{html.escape(caption)}</p>{_table(rows)}'


def _scores(report: Report) -> str:
    rows = [
        {
            "": f"{name}, {'test' if split == 'test' else 'training'} pairs",
            **{key.replace("_", " "): _interval(figure) for key, figure in report[part][split].items()},
        }
        for part, name in (("model", "full model"), ("circuit", "circuit"))
        for split in ("train", "test")
    ]
    return f"<h3>Both splits</h3>{_table(rows)}"


def _bar(label: str, figure: Report, kind: str = "other") -> Bar:
    return Bar(label, figure["value"], figure["low"], figure["high"], kind, figure.get("draws", ()))


def _interval(figure: Report) -> str:
    return f"{show(figure['value'])} ({show(figure['low'])} to {show(figure['high'])})"


def _figure(heading: str, caption: str, svg: str) -> str:
    title, below = html.escape(heading), html.escape(caption)
    return f"<figure><h3>{title}</h3>{svg}<figcaption>{below}</figcaption></figure>"


def _table(rows: Iterable[Mapping[str, Any]], links: Iterable[str] = ()) -> str:
    """Rows as an HTML table; a `task` that is in `links` leads to its section."""
    rows, links = list(rows), set(links)
    columns = list(dict.fromkeys(key for row in rows for key in row))

    def cell(column: str, value: Any) -> str:
        text = show(value) if isinstance(value, float) else html.escape(str(value))
        if column == "task" and value in links:
            text = f'<a href="#{_anchor(str(value))}">{text}</a>'
        return f"<td>{text}</td>"

    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    lines = ("".join(cell(column, row.get(column, "")) for column in columns) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _anchor(task: str) -> str:
    return html.escape("".join(letter if letter.isalnum() else "-" for letter in task), quote=True)


def _file(name: str) -> str:
    return (importlib.resources.files("circuits_jax.viewer") / "page" / name).read_text(encoding="utf-8")

"""The report on bridges as one HTML file: sites, routes, steering, prompts before and after.

It is the audit page's template and style (`page/audit.html`, `page/audit.css`) with a few rules of its own.
"""

import html
import importlib.resources
import string
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from circuits_jax.bridges.records import COMMAND
from circuits_jax.storage import filenames
from circuits_jax.storage.errors import BridgeError
from circuits_jax.storage.files import read_json_if_any, write_aside
from circuits_jax.storage.tables import Report
from circuits_jax.viewer.charts.bars import Bar, bar_chart, show
from circuits_jax.viewer.charts.lines import Curve, line_chart, matrix

_CIRCUITS = f"{filenames.SPARSE}/{filenames.INDEX}"  # written by the command view
_STYLE = """
.plot .cell { fill: var(--ours); }
pre { margin: 0; white-space: pre-wrap; font: 12.5px/1.45 ui-monospace, monospace; max-width: 60ch; }
"""
_OURS = "the node"
_KINDS = {_OURS: "ours", "the sparse model itself": "model"}
_WORDS = {"dense": "the dense model", "sparse": "the sparse model"}


def write_bridge_page(workdir: Path) -> Path:
    """Writes `<workdir>/bridges.html` from `bridges.json` and `steer.json`, of which one may be missing.

    Raises:
      BridgeError: if neither can be read.
    """
    bridges, steer = _read(workdir / filenames.BRIDGES), _read(workdir / filenames.STEER)
    if not bridges and not steer:
        raise BridgeError(
            f"{workdir} holds no report on bridges ({filenames.BRIDGES}, {filenames.STEER}); make one: "
            f"{COMMAND}"
        )
    circuits = _CIRCUITS if (workdir / _CIRCUITS).exists() else None
    path = workdir / filenames.BRIDGES_PAGE
    page = build_bridge_page(f"Bridges of {workdir.name}", bridges, steer, circuits)
    with write_aside(path) as file:
        file.write(page.encode())
    return path


def build_bridge_page(
    title: str, bridges: Report | None, steer: Report | None, circuits: str | None = None
) -> str:
    """The page, as a string that depends on nothing but the arguments.

    Args:
      title: Heading of the page.
      bridges: What `bridges.json` holds, or None.
      steer: What `steer.json` holds, or None.
      circuits: Where the index of the sparse model's circuits lies, relative to the page, or None.
    """
    body = []
    if circuits:
        body.append(f'<p><a href="{html.escape(circuits)}">Circuits of the sparse model</a></p>')
    if steer:
        body.append(_table(steer["rows"]))
    if bridges:
        body.append(_sites(bridges))
    body += [_steering(report) for report in (steer or {}).get("tasks", {}).values()]
    page = importlib.resources.files("circuits_jax.viewer") / "page"
    return string.Template((page / "audit.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        style=(page / "audit.css").read_text(encoding="utf-8") + _STYLE,
        note="Figures are in nats a token unless they say otherwise; bands are intervals over templates.",
        body="\n".join(body),
    )


def _sites(bridges: Report) -> str:
    report = bridges["report"]
    figures = [_single(report, direction) for direction in report["single"]]
    figures += [_double(report, start) for start in ("dense", "sparse")]
    facts = [
        f"{name}: {value if isinstance(value, str) else show(value)}"
        for name, value in bridges["summary"].items()
    ]
    alternating = "; ".join(
        f"from {_WORDS[start]}, KL {show(kl)} and cross-entropy {show(ce)}"
        for start, (kl, ce) in report["alternating"].items()
    )
    return "\n".join(
        [
            '<section id="sites"><h2>Sites and routes</h2>',
            f'<p class="quiet">{html.escape(". ".join(facts))}. Crossing at every site: {alternating}.</p>',
            _table(bridges["rows"]),
            '<div class="plots">',
            *figures,
            "</div></section>",
        ]
    )


def _single(report: Report, direction: str) -> str:
    kinds = {"trained": "ours", "ridge": "model", "mean": "other"}
    labels = {"trained": "", "ridge": ", ridge", "mean": ", at its mean"}
    bars = [
        Bar(site + labels[kind], report["single"][direction][kind][place][0], kind=style)
        for place, site in enumerate(report["sites"])
        for kind, style in kinds.items()
    ]
    most = max([bar.value for bar in bars if bar.kind != "other"] + [1e-9])
    caption = (
        "KL from the dense model to the pass that crosses at one site: through the trained bridge, through a "
        "linear one fitted in closed form, and with the site at its mean (cut at the axis' end)."
    )
    return _figure(direction, caption, bar_chart(direction, bars, 1.6 * most))


def _double(report: Report, start: str) -> str:
    cells = [[None if cell is None else cell[0] for cell in row] for row in report["double"][start]]
    most = max(cell for row in cells for cell in row if cell is not None)
    other = _WORDS["sparse" if start == "dense" else "dense"]
    caption = (
        f"KL of passes that begin in {_WORDS[start]}, cross into {other} at the row's site and come back at "
        "the column's."
    )
    svg = matrix(f"Routes from {start}", report["sites"], cells, max(most, 1e-9))
    return _figure(f"There and back, from {_WORDS[start]}", caption, svg)


def _steering(report: Report) -> str:
    share, untouched = report["reverse"]["sparse_share"], report["untouched"]["dense"]["value"]
    text = (
        f"{report['description']}. {', '.join(report['nodes'])} written into the dense model on prompt A of "
        f"{report['pairs']} test pairs. {_flips(report)} On prompt B itself the dense model gives "
        f"B's answer the probability {show(untouched)}. The sparse model, its node turned alike, shows "
        f"{show(share)} of the dense model's change in logits."
    )
    parts = [
        f'<section id="{_anchor(report["task"])}"><h2>{html.escape(report["task"])}</h2>',
        f"<p>{html.escape(text)}</p>",
        '<div class="plots">',
        _curves(report),
        _specificity(report),
        "</div>",
        "<h3>Prompts</h3>",
        _examples(report),
    ]
    if report["candidates"]:
        parts += ["<h3>Best nodes on training pairs</h3>", _table(report["candidates"])]
    if "circuit" in report:
        circuit = report["circuit"]
        # Reports of before do not say it.
        under = f", cut under {circuit['ablation']} ablation" if "ablation" in circuit else ""
        size = f"{circuit['nodes']} nodes{under}, entered at {circuit['entry']} and left at {circuit['exit']}"
        held = "the others are held at constants, and losses are calibrated."
        parts += [
            "<h3>The sparse circuit inside the dense model</h3>",
            f'<p class="quiet">{html.escape(size)}; {held}</p>',
            _table(circuit["rows"]),
        ]
    return "\n".join([*parts, "</section>"])


def _flips(report: Report) -> str:
    """By which pairs the strength was chosen that single figures are of, and what flips at it."""
    flip, shown, chosen = report["flip_strength"], report["shown_strength"], report.get("select")
    flips = "do not flip at any strength" if flip is None else f"flip at strength {flip:g}"
    if chosen is None:
        return (
            f"Most answers {flips}. An earlier release chose the strength {shown:g} by these very pairs, "
            "which favours the figures at it."
        )
    share = report["series"][_OURS]["flipped"][report["strengths"].index(shown)]
    return (
        f"On {chosen['pairs']} select pairs, which choose it, most answers {flips}; at strength {shown:g} "
        f"{share:.0%} of the test pairs' do."
    )


def _curves(report: Report) -> str:
    curves = [
        Curve(
            name,
            *([point[key] for point in each["other_answer"]] for key in ("value", "low", "high")),
            kind=_KINDS.get(name, "other"),
        )
        for name, each in reversed(report["series"].items())
    ]
    names = ("strength", "probability of B's answer")
    svg = line_chart(f"Steering {report['task']}", report["strengths"], curves, names, level=0.5)
    caption = (
        "Probability of B's answer against A's on prompt A. Controls have the same norm: another node's "
        "direction, a random one (each averaged over draws), the same edit at other positions."
    )
    return _figure("Strength", caption, svg)


def _specificity(report: Report) -> str:
    bars = [
        Bar(name, each["value"], each["low"], each["high"], _KINDS.get(name, "other"))
        for name, each in report["specificity"].items()
    ]
    most = max(max(bar.high or 0.0, bar.value) for bar in bars)
    caption = (
        f"KL of the dense model on unrelated corpus text, in nats a token, under the same edits at strength "
        f"{report['shown_strength']:g}."
    )
    return _figure("What else it changes", caption, bar_chart("Specificity", bars, max(most, 1e-9)))


def _examples(report: Report) -> str:
    lines = [
        f"<tr><td><pre>{html.escape(each['a'])}</pre></td><td><code>{html.escape(each['answer_a'])}</code></td>"
        f"<td><code>{html.escape(each['answer_b'])}</code></td><td>{show(each['before'])}</td>"
        f"<td>{show(each['after'])}</td></tr>"
        for each in report["examples"]
    ]
    names = ("prompt A", "its answer", "B's answer", "B's probability", f"at {report['shown_strength']:g}")
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _table(rows: Iterable[Mapping[str, Any]]) -> str:
    rows = list(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))

    def cell(value: Any) -> str:
        return f"<td>{show(value) if isinstance(value, float) else html.escape(str(value))}</td>"

    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(cell(row.get(column, '')) for column in columns)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _figure(heading: str, caption: str, svg: str) -> str:
    title, below = html.escape(heading), html.escape(caption)
    return f"<figure><h3>{title}</h3>{svg}<figcaption>{below}</figcaption></figure>"


def _anchor(task: str) -> str:
    return html.escape("".join(letter if letter.isalnum() else "-" for letter in task), quote=True)


def _read(path: Path) -> dict[str, Any] | None:
    """A report, or None where there is none that can be read: the page then leaves it out."""
    return read_json_if_any(path) or None

"""An audit's curves of faithfulness against size, as charts and a table.

See docs/statistics.md, "Faithfulness against size".
"""

import math
from typing import Any

from circuits_jax.storage.tables import Report
from circuits_jax.viewer.charts.bars import show
from circuits_jax.viewer.charts.lines import Curve, line_chart

NAMES = {
    "masks": "our masks",
    "attribution": "our attributions",
    "eap-ig": "EAP-IG",
    "acdc": "ACDC",
    "random": "random order",
}
ABLATIONS = {"mean": "mean ablation", "counterfactual": "counterfactual ablation"}
TOP = 1.25  # of the axis: circuits may do more than the model


def charts(curves: Report) -> list[tuple[str, str, str]]:
    """(heading, caption, SVG) for each ablation under which faithfulness can be told."""
    across = {f"{fraction:g}": math.log10(fraction) for fraction in curves["fractions"]}
    found = []
    for reference, report in curves["references"].items():
        if report["why_not"] is not None:
            continue
        lines = [
            Curve(NAMES[method], of["f"], kind={"masks": "ours", "random": "other"}.get(method, "model"))
            for method, of in report["methods"].items()
        ]
        names = ("share of the model's edges", "faithfulness f")
        chart = line_chart(f"Faithfulness, {ABLATIONS[reference]}", across, lines[::-1], names, 1.0, TOP)
        found.append((f"Edges kept, {ABLATIONS[reference]}", _caption(curves, report), chart))
    return found


def table(curves: Report) -> list[dict[str, Any]]:
    """One row a method: the areas under each ablation."""
    methods = {name for report in curves["references"].values() for name in report["methods"]}
    rows = []
    for method in (name for name in NAMES if name in methods):
        row: dict[str, Any] = {"order of edges": NAMES[method]}
        for reference, report in curves["references"].items():
            if method in report["methods"]:
                of = report["methods"][method]
                row |= {f"CPR, {reference}": of["cpr"], f"CMD, {reference}": of["cmd"]}
        rows.append(row)
    return rows


def remarks(curves: Report) -> list[str]:
    """What the table means and what it leaves out, a sentence each."""
    said = [
        "CPR is the area under the curve (high: small circuits answer), CMD the area between it and the "
        "model's 1 (low: they answer as the model does), both over the share of edges on a linear axis."
    ]
    for reference, report in curves["references"].items():
        if report["why_not"] is not None:
            said.append(f"Left out under {ABLATIONS[reference]}: {report['why_not']}.")
    if not curves["taus"]:
        said.append(
            "The circuit's file keeps no taus, so that beyond its own nodes the masks' order is that of "
            "attributions; prune again for it."
        )
    if not any("acdc" in report["methods"] for report in curves["references"].values()):
        said.append("Full controls add ACDC, and counterfactual ablation where that is not shown.")
    return said


def _caption(curves: Report, report: Report) -> str:
    model, nothing, edges = (show(x) for x in (report["model"], report["nothing"], curves["edges"]))
    return (
        f"Share of the model's logit difference ({model}; {nothing} with every node ablated) that the first "
        f"of its {edges} edges give, on {curves['pairs']} pairs; the circuit has {curves['circuit_edges']}. "
        f"The horizontal axis is logarithmic. Edges are ordered on {curves['learnt_pairs']} training pairs."
    )

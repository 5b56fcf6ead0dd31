"""The controls of an audit as a chart and as rows of a table (docs/statistics.md, "Controls")."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from circuits_jax.circuits.audit.controls.kinds import (
    MEMORISED,
    MET,
    MOVED,
    RANDOM,
    SEARCHED,
    SEED,
    THROWN_AWAY,
    TRAINED,
    deciding_pairs,
    rows_of,
)
from circuits_jax.viewer.charts.bars import Line, show
from circuits_jax.viewer.charts.dots import Dot, dot_chart


def distributions(report: Mapping[str, Any]) -> str:
    """Edges of every draw of every kind, against the circuit's: an SVG."""
    rows = [
        (f"{name} ({len(draws)})", [_dot(row) for row in draws])
        for name, draws in _groups(report["controls"]["rows"])
        if draws
    ]
    own = report["circuit"]["edges"]
    edges = report["circuit"].get("counted_edges", own)  # reports of before lack it
    every = "" if edges == own else "all "  # it misses its target
    return dot_chart("Controls", rows, Line(edges, f"this circuit: {every}{show(edges)}"))


def table(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a kind that was searched: how many draws met the target, and with how many edges."""
    found = []
    rows = report["controls"]["rows"]
    decides = rows_of(rows, MEMORISED)
    for name, draws in _groups(rows):
        edges = [row["edges"] for row in draws]
        row = {
            "control": name,
            "draws": len(draws),
            "met the target": sum(row["outcome"] == MET for row in draws),
            "edges, median": show(statistics.median(edges)) if edges else "",
            "least": show(min(edges)) if edges else "",
            "most": show(max(edges)) if edges else "",
            "minutes": show(sum(row["seconds"] for row in draws) / 60),
            "decides": "yes" if draws and _decides(draws[0], decides) else "no",
        }
        found.append(row)
    return found


def remarks(report: Mapping[str, Any]) -> list[str]:
    """What else there is to say of the controls, a sentence each."""
    rows, target = report["controls"]["rows"], report["controls"]["target"]
    said = []
    for row in rows_of(rows, MOVED):
        of = (
            f"the circuit of {row['of']}"
            if row["of"]
            else "a random circuit (no other of the model meets its target and has other answers)"
        )
        loss = "no finite loss" if row["loss"] is None else f"a loss of {show(row['loss'])}"
        said.append(
            f"Moved here and calibrated anew, {of}, of {show(row['nodes'])} nodes and {show(row['edges'])} "
            f"edges, has {loss}; the target is {show(target)}."
        )
    memorised = [row for row in rows if row["kind"] == MEMORISED]
    if memorised and not any(row["outcome"] == MET for row in memorised):
        least = show(min(row["pairs"] for row in memorised))
        said.append(f"Not even {least} pairs could be learnt by heart: that counts as all edges.")
    if any(row.get("scale") != TRAINED for row in rows_of(rows, RANDOM)):
        said.append(
            "The random weights of this audit are as small as at initialisation, so that they could hardly "
            "meet the target; one made anew has them as large as the trained ones."
        )
    if thrown := [row for row in rows if row["outcome"] == THROWN_AWAY]:
        said.append(
            f"{len(thrown)} draws of labels were thrown away: the circuit itself, read at the two tokens, "
            "meets the target, so they ask for the same mechanism."
        )
    if seeds := [row for row in rows_of(rows, SEED) if row["outcome"] == MET]:
        kept = [sum(each) for each in zip(*(row["kept"] for row in seeds), strict=True)]
        always, never = sum(count == len(seeds) for count in kept), sum(count == 0 for count in kept)
        overlap = show(statistics.mean(row["jaccard"] for row in seeds))
        said.append(
            f"Of the circuit's {len(kept)} nodes {always} are in each of the {len(seeds)} circuits of other "
            f"pruning seeds, {never} in none. Overlap, nodes in both among those in either: {overlap}; of "
            f"random circuits {show(report['baselines']['random']['jaccard'])}."
        )
    return said


def _groups(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """(name, draws) of every kind whose edges are counted, memorisation by its number of pairs."""
    groups: list[tuple[str, list[Mapping[str, Any]]]] = []
    for kind in (*SEARCHED, SEED):
        drawn = [row for row in rows if row["kind"] == kind and row["outcome"] != THROWN_AWAY]
        if kind != MEMORISED:
            groups.append((kind, drawn))
            continue
        for pairs in sorted({row["pairs"] for row in drawn}):
            groups.append((f"{kind}, {pairs} pairs", [row for row in drawn if row["pairs"] == pairs]))
    return groups


def _decides(row: Mapping[str, Any], memorised: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the verdict compares the circuit with draws such as this."""
    if row["kind"] == MEMORISED:
        return row["pairs"] == deciding_pairs(memorised)
    return row["kind"] in SEARCHED


def _dot(row: Mapping[str, Any]) -> Dot:
    met = row["outcome"] == MET
    loss = "no finite loss" if row["loss"] is None else f"loss {show(row['loss'])}"
    labels = f", labels {' and '.join(map(repr, row['tokens']))}" if row.get("tokens") else ""
    missed = "" if met else ", misses the target and counts as all edges"
    what = f"draw {row['draw'] + 1}{labels}, {loss}{missed}"
    return Dot(row["edges"], what, met, "model" if row["kind"] == SEED else "other")

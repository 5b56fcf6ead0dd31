"""The page on bridges and its two charts: every figure is there, whatever is missing, and nothing runs."""

import json
import re
from xml.etree import ElementTree

import pytest

from circuits_jax.storage.errors import BridgeError
from circuits_jax.viewer.bridge_page import build_bridge_page, write_bridge_page
from circuits_jax.viewer.charts.lines import Curve, line_chart, matrix

SITES = ["0.resid_in", "0.resid_mid", "final_resid"]


def bridges():
    """A report on three sites with figures that tell themselves apart."""
    single = {
        direction: {
            kind: [[base + place / 10, 2.0] for place in range(3)]
            for kind, base in (("trained", 0.1), ("ridge", 0.2), ("mean", 3.0))
        }
        for direction in ("dense to sparse", "sparse to dense")
    }
    double = {
        start: [[[0.5 + i / 10 + j / 100, 2.0] if j >= i else None for j in range(3)] for i in range(3)]
        for start in ("dense", "sparse")
    }
    report = {
        "sites": SITES,
        "single": single,
        "double": double,
        "alternating": {"dense": [1.25, 3.5], "sparse": [1.75, 3.75]},
    }
    rows = [{"site": site, "direction": "dense to sparse", "NMSE": 0.123} for site in SITES]
    return {"summary": {"dense model": "runs/<dense>", "KL": 0.456}, "rows": rows, "report": report}


def steer(circuit=True):
    """A report on one task."""
    point = {"value": 0.2, "low": 0.1, "high": 0.3}
    series = {
        name: {
            "flipped": [0.0, value],
            "other_answer": [point, {"value": value, "low": value - 0.05, "high": value + 0.05}],
        }
        for name, value in (("the node", 0.9), ("another node", 0.25), ("the sparse model itself", 0.8))
    }
    task = {
        "task": "a<b>",
        "description": "what to know",
        "nodes": ["0.mlp.post_act.3"],
        "pairs": 12,
        "strengths": [0.0, 2.0],
        "series": series,
        "flip_strength": 2.0,
        "shown_strength": 2.0,
        "select": {"pairs": 9, "flipped": [0.0, 0.6]},
        "specificity": {"the node": {"value": 0.012, "low": 0.01, "high": 0.02}},
        "reverse": {"sparse_share": 0.77},
        "untouched": {"dense": {"value": 0.95}},
        "candidates": [{"node": "0.mlp.post_act.3", "separation": 1.0, "effect": 0.5}],
        "examples": [
            {"a": "x = '<", "b": 'x = "<', "answer_a": "'", "answer_b": '"', "before": 0.11, "after": 0.91}
        ],
    }
    if circuit:
        task["circuit"] = {"entry": SITES[0], "exit": SITES[2], "nodes": 5, "rows": [{"run": "dense model"}]}
    return {"rows": [{"task": "a<b>", "flips at": 2.0}], "tasks": {"a<b>": task}}


def charts(page):
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.S)]


def test_the_page_has_every_section_and_escapes_what_it_shows():
    page = build_bridge_page("Bridges of <x>", bridges(), steer())
    assert "<b>" not in page and "a&lt;b&gt;" in page and "runs/&lt;dense&gt;" in page and "<x>" not in page
    assert "<script" not in page and "http" not in re.sub(r"http-equiv|xmlns=\S+", "", page)
    for figure in ("0.123", "1.250", "3.750", "0.770", "0.950", "0.110", "0.910"):
        assert figure in page, figure
    assert len(charts(page)) == 2 + 2 + 2  # single crossings, there and back, strength and specificity


def test_which_pairs_chose_the_strength_is_said():
    page = build_bridge_page("t", None, steer())
    assert "On 9 select pairs, which choose it, most answers flip at strength 2; at strength 2 90% of" in page
    never, earlier = steer(), steer()
    never["tasks"]["a<b>"]["flip_strength"] = None
    assert "do not flip at any strength; at strength 2 90% of" in build_bridge_page("t", None, never)
    del earlier["tasks"]["a<b>"]["select"]
    page = build_bridge_page("t", None, earlier)
    assert "chose the strength 2 by these very pairs, which favours" in page and "select pairs" not in page


def test_the_circuits_size_is_told_with_its_ablation_where_that_is_known():
    assert f"5 nodes, entered at {SITES[0]}" in build_bridge_page("t", None, steer())
    told = steer()
    told["tasks"]["a<b>"]["circuit"]["ablation"] = "zero"
    assert f"5 nodes, cut under zero ablation, entered at {SITES[0]}" in build_bridge_page("t", None, told)


def test_a_part_that_is_missing_is_left_out():
    assert "Sites and routes" not in build_bridge_page("t", None, steer(circuit=False))
    assert "inside the dense model" not in build_bridge_page("t", None, steer(circuit=False))
    assert "Strength" not in build_bridge_page("t", bridges(), None)


def test_the_page_is_written_from_what_the_workdir_holds(tmp_path):
    with pytest.raises(BridgeError, match=r"no report.*python -m circuits_jax bridges"):
        write_bridge_page(tmp_path)
    (tmp_path / "bridges.json").write_text(json.dumps(bridges()))
    assert "Sites and routes" in write_bridge_page(tmp_path).read_text()
    (tmp_path / "steer.json").write_text(json.dumps(steer()))
    page = write_bridge_page(tmp_path).read_text()
    assert "Sites and routes" in page and "Strength" in page


def test_curves_lie_where_their_figures_are():
    rising = Curve("ours", [0.0, 0.5, 1.0], [0.0, 0.4, 0.9], [0.1, 0.6, 1.0], "ours")
    curves = [rising, Curve("flat", [0.2] * 3)]
    chart = ElementTree.fromstring(line_chart("t", [0.0, 1.0, 3.0], curves, ("across", "up"), 0.5))
    lines = [each for each in chart.iter("polyline")]
    places = [[tuple(map(float, p.split(","))) for p in line.get("points").split()] for line in lines]
    (x0, y0), (x1, y1), (x2, y2) = places[0]
    assert (x1 - x0) * 2 == pytest.approx(x2 - x1, rel=0.01) and y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert len({y for _, y in places[1]}) == 1
    assert lines[0].get("stroke-dasharray") != lines[1].get("stroke-dasharray")
    titles = [each.text for each in chart.iter("title")]
    assert "ours at 1: 0.500 (0.400 to 0.600)" in titles and "flat at 3: 0.200" in titles
    assert len(list(chart.iter("polygon"))) == 1


def test_a_matrix_shades_its_cells_and_leaves_gaps():
    chart = ElementTree.fromstring(matrix("t", ["a", "b"], [[0.0, 1.0], [None, 0.5]], 1.0))
    cells = [float(each.get("fill-opacity")) for each in chart.iter("rect")]
    assert len(cells) == 3 and cells[0] < cells[2] < cells[1]
    assert "a, b: 1.000" in [each.text for each in chart.iter("title")]

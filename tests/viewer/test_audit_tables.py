"""An audit's curves and tests on its page: what the data say, and what was left out."""

import copy
import re

import pytest

from circuits_jax.viewer import hypothesis_tables, size_plots
from circuits_jax.viewer.charts.lines import Curve, line_chart
from tests.viewer.page import parse

FRACTIONS = [0.001, 0.01, 0.1, 1.0]
CURVES = {
    "fractions": FRACTIONS,
    "edges": 12288,
    "circuit_edges": 19,
    "taus": True,
    "pairs": 256,
    "learnt_pairs": 64,
    "references": {
        "mean": {
            "model": 6.5,
            "nothing": 0.125,
            "why_not": None,
            "methods": {
                "masks": {"f": [0.6, 1.1, 1.0, 1.0], "cpr": 1.021, "cmd": 0.034},
                "acdc": {"f": [0.5, 0.9, 1.0, 1.0], "cpr": 0.971, "cmd": 0.045},
                "random": {"f": [0.0, 0.0, -0.1, 1.0], "cpr": 0.351, "cmd": 0.652},
            },
        },
        "counterfactual": {"model": 0.3, "nothing": 0.1, "why_not": "less than 0.5 apart", "methods": {}},
    },
}
POWER = {
    "one edge dropped": {"circuits": 19, "rejected": 0.947},
    "one foreign edge added": {"circuits": 0, "rejected": None},
}
TESTS = {
    "level": 0.05,
    "circuit": [
        {"test": "sufficiency", "null": "No better.", "loss": 0.05, "random": 0.69, "draws": 199, "p": 0.005,
         "corrected": 0.01},
        {"test": "necessity", "null": "No worse.", "loss": 0.61, "random": 0.60, "draws": 199, "p": 0.3,
         "corrected": 0.3},
    ],
    "edges": {"null": "No more.", "why_not": None, "draws": 380, "random": [0.0, 0.1, 0.25], "significant": 1,
              "rows": [{"source": "0.attn.act_in.3", "target": "0.attn.q.1", "effect": 2.5, "p": 0.0001,
                        "corrected": 0.0002},
                       {"source": "0.attn.v.3", "target": "0.attn.resid_delta.1", "effect": 0.01, "p": 0.5,
                        "corrected": 0.5}]},
    "equivalence": {"null": "As likely.", "better": 0.25, "worse": 0.7, "p": 0.031, "power": POWER},
    "independence": {"null": "Nothing.", "hsic": 0.0012, "draws": 199, "p": 0.4, "power": None},
}  # fmt: skip


def test_a_chart_for_each_ablation_under_which_f_can_be_told():
    ((heading, caption, svg),) = size_plots.charts(CURVES)
    assert heading == "Edges kept, mean ablation"
    for text in ("6.500", "0.125", "12,288", "256 pairs", "has 19", "64 training pairs"):
        assert text in caption, text
    dots = [title.text for title in parse(svg).all("title")]
    assert "our masks at 0.01: 1.100" in dots and "random order at 0.1: -0.100" in dots
    lines = parse(svg).all("polyline")
    assert len(lines) == 3
    # Shares of edges are a decade apart each.
    x = [float(point.split(",")[0]) for point in lines[0].attributes["points"].split()]
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.2) == pytest.approx(x[3] - x[2], abs=0.2)


def test_the_areas_are_in_the_table_and_what_is_left_out_is_said():
    rows = size_plots.table(CURVES)
    assert [row["order of edges"] for row in rows] == ["our masks", "ACDC", "random order"]
    assert rows[0]["CPR, mean"] == 1.021 and rows[2]["CMD, mean"] == 0.652
    assert not any("counterfactual" in key for row in rows for key in row)
    said = " ".join(size_plots.remarks(CURVES))
    assert "counterfactual ablation: less than 0.5 apart" in said
    assert "taus" not in said and "add ACDC" not in said
    old = copy.deepcopy(CURVES)
    old["taus"] = False
    del old["references"]["mean"]["methods"]["acdc"]
    said = " ".join(size_plots.remarks(old))
    assert "no taus" in said and "Full controls add ACDC" in said


def test_curves_beyond_the_axis_lie_at_its_end_and_places_have_names():
    svg = line_chart("t", {"few": 0.0, "half": 1.0}, [Curve("c", [0.625, 9.0])], ("x", "y"), 1.0, 1.25)
    root = parse(svg)
    (line,) = root.all("polyline")
    (_, low), (_, high) = (map(float, point.split(",")) for point in line.attributes["points"].split())
    axis = root.all("path", "axis")[0].attributes["d"]
    top, bottom = float(re.findall(r"M\d+ (\d+)", axis)[0]), float(re.findall(r"V(\d+)", axis)[0])
    assert low == pytest.approx((top + bottom) / 2, abs=0.2) and high == top
    assert {"few", "half"} <= {text.text for text in root.all("text")}
    assert any(title.text.startswith("c at half: 9") for title in root.all("title"))


def test_tests_say_their_null_and_what_came_out():
    enough, needed, edges = hypothesis_tables.circuit_table(TESTS)
    assert enough["outcome"] == "told from random"
    assert hypothesis_tables.nulls(TESTS)[:2] == [("sufficiency", "No better."), ("necessity", "No worse.")]
    assert needed["outcome"] == "not told from random" and "0.610" in needed["measured"]
    assert edges["outcome"] == "1 of 2 edges told from random" and "380 random edges" in edges["measured"]
    equivalence, independence = hypothesis_tables.contrary_table(TESTS)
    assert equivalence["outcome"] == "not so" and "25.0%" in equivalence["measured"]
    assert equivalence["rejects, one edge dropped"] == "95% of 19"
    assert equivalence["rejects, one foreign edge added"] == "no such circuit" and "power" not in equivalence
    assert independence["outcome"] == "nothing against it" and "corrected" not in independence
    rows = hypothesis_tables.edge_table(TESTS)
    assert rows[0] == {
        "edge": "0.attn.act_in.3 to 0.attn.q.1", "effect": 2.5, "p": "below 0.001", "corrected": "below 0.001"
    }  # fmt: skip
    assert "0.05" in hypothesis_tables.remarks(TESTS)[0]


def test_edges_that_were_not_tested_are_said_not_to_be():
    tests = {**TESTS, "edges": {"null": "No more.", "why_not": "at most 4000 are measured"}}
    assert len(hypothesis_tables.circuit_table(tests)) == 2 and hypothesis_tables.edge_table(tests) == []
    assert "at most 4000 are measured." in hypothesis_tables.remarks(tests)[1]


def test_power_is_said_to_be_little_where_the_circuit_itself_is_rejected():
    both = {**TESTS, "independence": {**TESTS["independence"], "power": POWER}}
    (said,) = hypothesis_tables.remarks(both)[1:]
    assert "equivalence rejects the circuit itself" in said
    accepted = {**both, "equivalence": {**TESTS["equivalence"], "p": 0.05}}
    assert len(hypothesis_tables.remarks(accepted)) == 1


@pytest.mark.parametrize(
    ("without", "named"),
    [(("equivalence", "independence"), "equivalence and independence"), (("independence",), "independence")],
)
def test_power_that_a_quick_audit_leaves_out_is_said_to_be_left_to_full_controls(without, named):
    powers = {name: None if name in without else POWER for name in ("equivalence", "independence")}
    tests = TESTS | {name: TESTS[name] | {"power": power} for name, power in powers.items()}
    rows = {row["test"]: row for row in hypothesis_tables.contrary_table(tests)}
    for name, row in rows.items():
        assert (row.get("power") == "left to full controls") == (name in without)
        assert ("rejects, one edge dropped" in row) == (name not in without)
    assert f"Full controls add the power of {named}, the" in " ".join(hypothesis_tables.remarks(tests))

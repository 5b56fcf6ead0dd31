"""The audit's page says what its data says, in one file."""

import copy
import math
import re

import pytest

from circuits_jax.circuits.audit.records import AuditReport
from circuits_jax.runs.audit_tables import audit_table
from circuits_jax.viewer import control_plots
from circuits_jax.viewer.assembly import PageSettings, build_report
from circuits_jax.viewer.audit_page import build_audit_page
from circuits_jax.viewer.charts.bars import Bar, Line, bar_chart, scatter, show
from circuits_jax.viewer.charts.dots import Dot, dot_chart
from tests.viewer.conftest import Example, Pages, document
from tests.viewer.page import parse
from tests.viewer.test_audit_tables import CURVES, TESTS

TASK, HOSTILE = "single_double_quote", "</section><img src=x onerror=alert(1)>"


def figure(value, **more):
    return {"value": value, "low": value - 0.01, "high": value + 0.01, **more}


def scores(loss):
    return {"loss": figure(loss + 0.1), "calibrated_loss": figure(loss), "accuracy": figure(0.9)}


def criterion(name, value, bound, at_most, passed=True):
    measured = None if value is None else figure(value)
    return {
        "name": name,
        "figure": measured,
        "bound": bound,
        "at_most": at_most,
        "passed": passed,
        "clear": True,
    }


def draws(value):
    return {
        key: figure(value, draws=[value, value / 2]) for key in ("sufficiency", "necessity", "interchange")
    }


def control(kind, edges, draw=0, outcome="met", loss=0.1, **more):
    """A row of a control."""
    found = {"kind": kind, "draw": draw, "edges": edges, "nodes": 9, "outcome": outcome, "loss": loss}
    return found | {"seconds": 30.0, **more}


REPORT = {
    "model": {"train": scores(0.021), "test": scores(0.213), "flag": "mediocre", "select_loss": 0.187},
    "circuit": {
        "nodes": 29,
        "edges": 39,
        "train": scores(0.031),
        "test": scores(0.143),
        "constant_competitors": scores(0.157),
    },
    "references": {
        name: {"sufficiency": figure(0.1), "necessity": figure(0.612)}
        for name in ("mean", "zero", "resample")
    },
    "templates": [
        {
            "template": number,
            "pairs": 64,
            "prompt": f"{'x' * 90} = <{number}>",
            "sufficiency": 0.5 + number / 9,
        }
        for number in range(4)
    ],
    "interchange": {"circuit": figure(0.931), "outside": figure(0.271)},
    "baselines": {name: draws(0.633) | {"jaccard": 0.01} for name in ("random", "matched")},
    "completeness": {
        "parts": [
            {"removed": 3, "circuit": 0.25, "model": 0.5},
            {"removed": 7, "circuit": 0.6, "model": 9.0},
        ],
        "difference": figure(0.1),
        "gap": 0.123,
    },
    "natural": {
        "condition": "it ends a string",
        "found": 2076,
        "positions": 256,
        "second_answer": 0.61,
        **{
            name: {
                key: figure(0.777) for key in ("loss", "calibrated_loss", "accuracy", "calibrated_accuracy")
            }
            for name in ("model", "circuit")
        },
    },
    "controls": {
        "choice": "quick",
        "target": 0.15,
        "rows": [
            control("relabelled", 90, labels=[3, 4]),
            control("relabelled", 29, draw=1, outcome="thrown away", labels=[5, 6]),
            control("inverted", 12288, outcome="missed"),
            control("memorised", 700, pairs=16),
            control("memorised", 12288, outcome="missed", pairs=32),
            control("random weights", 12288, outcome="missed", loss=None),
            control("shuffled weights", 4100, draw=0),
            control("shuffled weights", 2100, draw=1),
            control("moved", 17, outcome="missed", loss=0.688, of="with_as"),
            control("other seed", 31, jaccard=0.42, kept=[True] * 20 + [False] * 9),
        ],
    },
    "pairs": 256,
    "ablation": "mean",
    "verdict": {
        "verdict": "not shown",
        "failed": ["the answer ignores the rest"],
        "close": ["sufficient"],
        "criteria": [
            criterion("sufficient", 0.143, 0.15, True),
            criterion("necessary", 0.612, 0.5, False),
            criterion("the answer follows the circuit", 0.931, 0.8, False),
            criterion("the answer ignores the rest", 0.271, 0.2, True, passed=False),
            criterion("another circuit misses the target", 0.688, 0.15, False),
            criterion("fewer edges than the relabelled controls", 39.0, 30.0, True, passed=False),
            criterion("fewer edges than the inverted controls", 39.0, 4096.0, True, passed=None),
        ],
    },
}
ROWS = [
    {"task": TASK, "verdict": "not shown", "loss alone": 0.143},
    {"task": "with_as", "refused": "no <pairs>"},
]


@pytest.fixture(scope="module")
def page():
    return build_audit_page("Audit & co", ROWS, {TASK: REPORT}, "a note")


def test_the_page_is_one_file_without_scripts_and_addresses(page):
    root = parse(page)
    assert not root.all("script") and not root.all("link") and not root.all("img")
    assert not re.search(r"https?:|url\(|@import", page)
    assert "default-src 'none'" in page
    assert root.all("title")[0].text == "Audit & co"


def test_every_figure_of_the_verdict_is_on_the_page(page):
    words = parse(page).words()
    for text in (
        "not shown",
        "29 nodes and 39 edges",
        "mediocre",
        "0.143",
        "0.612",
        "0.931",
        "0.271",
        "0.157",
    ):
        assert text in words, text
    for text in (
        "0.123",
        "256 of the 2076",
        "it ends a string",
        "61%",
        "either: 0.420",
        "20 are in each of the 1 circuits",
        "the circuit of with_as",
        "0.688",
        "12,288",
        "1 draws of labels were thrown away",
        "too few draws",
        "no <pairs>",
    ):
        assert text in words, text


def test_what_is_close_is_said_and_templates_have_a_table_unless_each_has_one_pair(page):
    words = parse(page).words()
    assert "not shown, close" in words and "crosses the bound: sufficient" in words
    assert "By template" in words and "= <3>" in words and "0.833" in words and "x" * 70 not in words
    alone = copy.deepcopy(REPORT)
    alone["templates"] = [row | {"pairs": 1} for row in REPORT["templates"]]
    alone["verdict"]["close"] = []
    words = parse(build_audit_page("t", [], {TASK: alone})).words()
    assert "By template" not in words and "close" not in words


def test_the_plots_are_those_of_the_report(page):
    root = parse(page)
    names = [svg.attributes["aria-label"] for svg in root.all("svg", "plot")]
    assert names == [
        "Sufficiency",
        "Necessity",
        "Interchange",
        "Ablation references",
        "Completeness",
        "Controls",
    ]
    (section,) = root.all("section")
    (link,) = [a for a in root.all("a") if a.text == TASK]
    assert link.attributes["href"] == f"#{section.attributes['id']}"


def test_tests_and_curves_are_on_the_page_of_a_report_that_has_them(page):
    assert "Faithful at what size?" not in parse(page).words()
    root = parse(build_audit_page("t", [], {TASK: {**REPORT, "tests": TESTS, "curves": CURVES}}))
    words = root.words()
    for text in (
        "told from random",
        "nothing against it",
        "left to full controls",
        "No worse.",
        "our masks",
        "1.021",
        "random order",
    ):
        assert text in words, text
    assert "Faithfulness, mean ablation" in [svg.attributes["aria-label"] for svg in root.all("svg", "plot")]
    quick = {**REPORT, "tests": None, "curves": None}
    assert (
        parse(build_audit_page("t", [], {TASK: quick})).words()
        == parse(build_audit_page("t", [], {TASK: REPORT})).words()
    )


def test_what_was_not_measured_is_said_and_not_drawn():
    report = copy.deepcopy(REPORT)
    report["controls"] = report["circuit"]["constant_competitors"] = None
    report["natural"] = {"why_not": "the answers vary"}
    report["verdict"]["criteria"][-1] |= {"figure": None, "passed": None, "clear": None}
    del report["verdict"]["criteria"][5]
    words = parse(build_audit_page("t", [], {TASK: report})).words()
    assert "not measured" in words and "Not judged: the answers vary." in words
    assert "rivals" not in words and "Overlap" not in words and "shuffled" not in words


def test_a_size_is_told_with_its_ablation_everywhere():
    report = {**REPORT, "ablation": "zero"}
    words = parse(build_audit_page("t", [], {TASK: report})).words()
    assert "29 nodes and 39 edges under zero ablation" in words
    found = AuditReport(TASK, report)
    assert "under zero ablation: nodes 29, edges 39" in repr(found)
    assert "<th>ablation</th><td>zero</td>" in found._repr_html_()
    assert audit_table({TASK: report}, {})[0]["ablation"] == "zero"


def test_why_nothing_was_compared_is_said():
    assert "Neither tests" not in parse(build_audit_page("t", [], {TASK: REPORT})).words()
    report = {**REPORT, "tests": None, "curves": None, "not_compared": "the model has <9 edges"}
    words = parse(build_audit_page("t", [], {TASK: report})).words()
    assert "Neither tests nor curves: the model has <9 edges." in words


def test_the_full_models_flag_is_told_with_the_loss_that_decides_it_and_the_one_on_test_pairs(page):
    words = parse(page).words()
    assert "is mediocre at this task, by the pairs that pruning chose by (calibrated loss 0.187;" in words
    assert "test pairs 0.213): a mask can repair" in words
    good = {**REPORT, "model": REPORT["model"] | {"flag": "good", "select_loss": 0.111}}
    words = parse(build_audit_page("t", [], {TASK: good})).words()
    assert "is good at this task" in words and "repair" not in words
    unknown = {**REPORT, "model": REPORT["model"] | {"flag": None, "select_loss": None}}
    words = parse(build_audit_page("t", [], {TASK: unknown})).words()
    assert "does not say what its full model knew of the task (calibrated loss on test pairs 0.213)" in words
    assert [audit_table({TASK: each}, {})[0].get("model") for each in (good, unknown)] == ["good", None]


def test_names_are_text_and_nothing_else():
    rows = [{"task": HOSTILE, "refused": HOSTILE}]
    root = parse(build_audit_page(HOSTILE, rows, {HOSTILE: REPORT}, HOSTILE))
    assert not root.all("img")
    assert root.words().count(HOSTILE) >= 4


def numbers(svg, tag, *names):
    return [[float(e.attributes[name]) for name in names] for e in parse(svg).all(tag)]


def test_bars_are_as_long_as_their_values_and_end_at_the_axis():
    bars = [Bar("a", 0.2), Bar("b", 0.4, 0.3, 0.5, draws=(0.1, 0.4)), Bar("c", 7.0)]
    svg = bar_chart("t", bars, 0.8, [Line(0.4, "bound")])
    (x, a), (_, b), (_, c) = numbers(svg, "rect", "x", "width")
    assert b == pytest.approx(2 * a, abs=0.2) and c == pytest.approx(4 * a, abs=0.3)
    bound = parse(svg).all("line", "bound")[0].attributes
    assert float(bound["x1"]) == pytest.approx(x + b, abs=0.2)
    ticks = [float(line.attributes["x1"]) for line in parse(svg).all("line", "draw")]
    assert ticks == pytest.approx([x + a / 2, x + b], abs=0.2)
    whisker = parse(svg).all("path", "whisker")[0].attributes["d"]
    start, end = (float(number) for number in re.findall(r"[MH]([\d.]+)", whisker)[:2])
    assert (start, end) == pytest.approx((x + 1.5 * a, x + 2.5 * a), abs=0.2)


def test_points_on_the_diagonal_are_on_the_line():
    svg = scatter("t", [(0.4, 0.4, "p"), (0.0, 0.8, "q"), (5.0, 5.0, "r")], 0.8, "x", "y")
    (middle, corner, far) = numbers(svg, "circle", "cx", "cy")
    line = parse(svg).all("line", "diagonal")[0].attributes
    x1, y1, x2, y2 = (float(line[name]) for name in ("x1", "y1", "x2", "y2"))
    assert middle == pytest.approx([(x1 + x2) / 2, (y1 + y2) / 2], abs=0.2)
    assert corner == pytest.approx([x1, y2], abs=0.2)
    assert far == pytest.approx([x2, y2], abs=0.2)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (0.1234, "0.123"),
        (29.0, "29"),
        (2816, "2,816"),
        (938.667, "938.7"),
        (None, "not measured"),
    ],
)
def test_figures_are_written_for_people(value, text):
    assert show(value) == text


def test_a_figure_that_is_not_a_number_is_said_to_be_none():
    assert show(math.nan) == "not a number"
    assert "NaN" not in bar_chart("t", [Bar("a", math.nan)], 1.0) and "nan" not in bar_chart(
        "t", [Bar("a", math.nan)], 1.0
    )


# Values that touch a bar, a whisker or a draw.
STRUCK = """[...document.querySelectorAll(".plot.bars")].flatMap((plot) => {
  const boxes = (kind) => [...plot.querySelectorAll(kind)].map((e) => e.getBoundingClientRect());
  const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
  return boxes(".value").filter((text) => boxes(".bar, .whisker, .draw").some((mark) => !apart(text, mark)));
}).length"""


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("audit", {}),
        ("audit-dark", {"dark": True}),
        ("audit-phone", {"width": 400, "height": 850, "phone": True}),
    ],
)
def test_the_page_fits_its_window(pages: Pages, page: str, name: str, options: dict):
    tab = pages.open(page, **options)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.evaluate(STRUCK) == 0
    pages.keep(tab, name, whole=True)


def test_dots_lie_by_their_logarithm_and_what_missed_is_a_ring():
    rows = [
        ("a", [Dot(1, "p"), Dot(10, "q"), Dot(1000, "r", filled=False)]),
        ("b", []),
        ("c", [Dot(0, "s", kind="model")]),
    ]
    svg = dot_chart("t", rows, Line(10, "this"))
    (one, ten, thousand, nothing) = numbers(svg, "circle", "cx", "cy")
    assert thousand[0] - ten[0] == pytest.approx(2 * (ten[0] - one[0]), abs=0.2)
    assert nothing[0] == one[0] and nothing[1] > ten[1] == one[1]
    bound = parse(svg).all("line", "bound")[0].attributes
    assert float(bound["x1"]) == ten[0]
    assert [float(line.attributes["x1"]) for line in parse(svg).all("line", "median")] == [ten[0], one[0]]
    rings = [circle for circle in parse(svg).all("circle") if "ring" in circle.attributes["class"].split()]
    assert [float(ring.attributes["cx"]) for ring in rings] == [thousand[0]]


def test_every_draw_is_a_dot_and_every_kind_a_row(page):
    (svg,) = [s for s in parse(page).all("svg", "plot") if s.attributes["aria-label"] == "Controls"]
    assert len(svg.all("circle")) == 8  # but what was thrown away and what was moved
    labels = [text.text for text in svg.all("text", "label")]
    assert labels == [
        "relabelled (1)",
        "inverted (1)",
        "memorised, 16 pairs (1)",
        "memorised, 32 pairs (1)",
        "random weights (1)",
        "shuffled weights (2)",
        "other seed (1)",
    ]
    rows = {row["control"]: row for row in control_plots.table(REPORT)}
    shuffled = rows["shuffled weights"]
    assert (shuffled["edges, median"], shuffled["least"], shuffled["most"]) == ("3,100", "2,100", "4,100")
    assert [rows[f"memorised, {n} pairs"]["decides"] for n in (16, 32)] == ["yes", "no"]
    assert (rows["inverted"]["met the target"], rows["other seed"]["decides"]) == (0, "no")


def test_a_circuit_s_own_page_says_which_controls_miss_the_target(pages: Pages, example: Example):
    circuit = example.circuit
    tab = pages.open(
        build_report(
            "audited", [(circuit, example.evidence)], settings=PageSettings(audits={circuit.task: REPORT})
        )
    )
    tab.wait("document.querySelector('.agreement').dataset.worst")
    assert "Close, an interval crosses its bound: sufficient." in document(tab).words()
    rows = [[cell.words() for cell in row.all("td")] for row in document(tab).all("tr")]
    said = {row[0]: row[-1] for row in rows if len(row) == 5}
    assert said["relabelled, draw 1"] == "" and "thrown away" in said["relabelled, draw 2"]
    assert said["memorised, 16 pairs, draw 1"] == ""
    for missed in ("inverted, draw 1", "memorised, 32 pairs, draw 1", "random weights, draw 1"):
        assert "so all edges" in said[missed]
    assert said["moved: with_as, draw 1"] == "misses the target"
    assert any(row[:2] == ["this circuit", str(len(circuit.edges))] for row in rows)

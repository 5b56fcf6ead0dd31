"""The page of a frontier says what its data says, in one file that opens anywhere."""

import copy
import io
import math
import re

import numpy as np
import pytest

from circuits_jax.runs.frontier.summary import summarize
from circuits_jax.viewer.charts.labels import boxes_along, place_labels
from circuits_jax.viewer.charts.scales import linear_axis, log_axis
from circuits_jax.viewer.frontier_marks import series_marks, shared_tasks
from circuits_jax.viewer.frontier_page import build_frontier_page
from circuits_jax.viewer.frontier_picture import draw_frontier
from circuits_jax.viewer.frontier_tables import figure
from tests.runs.frontier import made_up
from tests.viewer.page import parse

ASKED = made_up.config(
    series=made_up.SERIES + made_up.OTHERS,
    compare=("dense / sparse", "sparse activations alone / sparse"),
    learning_rates=(0.003, 0.01),
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return summarize(ASKED, made_up.write_all(ASKED, tmp_path_factory.mktemp("frontier"), noise=0.4))


@pytest.fixture(scope="module")
def page(report):
    return build_frontier_page("Frontier & co", report)


def test_the_page_is_one_file_without_scripts_and_addresses(page):
    root = parse(page)
    assert not root.all("script") and not root.all("link") and not root.all("img")
    assert not re.search(r"https?:|url\(|@import", page)
    assert root.all("title")[0].text == "Frontier & co" and "default-src 'none'" in page


def test_what_circuits_do_on_test_pairs_and_how_far_losses_overlap_is_told(report):
    changed = copy.deepcopy(report)
    changed["ratio"] |= {
        "missed_on_test": [{"task": "with_as", "model": "a"}],
        "held_on_test": {"value": 12.34, "low": 3.0, "high": 50.0, "tasks": ["lambda_func", "if_ternary"]},
        "losses": [3.8, 3.804],
    }
    page = build_frontier_page("A", changed)
    assert "and count as they are: 1, of with_as. By the tasks whose circuits all hold it" in page
    assert "12.3 (3 to 50; 2 tasks)" in page and "overlap by 0.004 nats only" in page
    plain = build_frontier_page("A", report)
    assert "count as they are" not in plain and "nats only" not in plain
    assert "Losses of the circuits on test pairs" in plain


@pytest.mark.parametrize(
    ("prune", "told"),
    [
        (
            {"hold_select": True},
            "seeds; it holds the target on training pairs and on select pairs, with a margin where it can.",
        ),
        (
            {"hold_select": False},
            "seeds; it holds the target on training pairs alone, with a margin where it can.",
        ),
        (
            {"retries": 2},
            "seeds, 2 stricter searches where a circuit misses; it holds the target on training",
        ),
        (
            {},
            "seeds; it holds the target on training pairs alone, with a margin where it can.",
        ),  # as before reports said so
    ],
)
def test_it_says_how_circuits_were_searched(report, prune, told):
    before = {key: value for key, value in report["pruning"].items() if key != "hold_select"}
    assert told in parse(build_frontier_page("t", report | {"pruning": before | prune})).words()


def test_it_reads_itself_again_only_while_models_are_missing(report, page):
    assert 'http-equiv="refresh"' not in page
    waiting = build_frontier_page("t", report | {"missing": ["dense, d_model 512, seed 0"]})
    assert '<meta http-equiv="refresh" content="30">' in waiting
    assert "1 of 21 models are not measured yet" in waiting and "dense, d_model 512, seed 0" in waiting


def test_every_model_is_a_mark_that_leads_to_its_circuits(report, page):
    root = parse(page)
    headline = root.all("svg", "sizes")[0]
    links = [link.attributes["href"] for link in headline.all("a")]
    assert sorted(links) == sorted(point["pages"] for point in report["points"]) and len(links) == 12
    assert len(headline.all("path", "mark")) == 6 + 2  # sizes, and the legend
    words = headline.words()
    for point in report["points"]:
        assert f"{point['name']}: loss {point['loss']:.3f}" in words
    every = root.all("svg", "sizes")[2]
    assert len(every.all("a")) == len(report["points"]) + len(report["other_points"])
    table = root.all("table")[0]
    assert [a.attributes["href"] for a in table.all("a")] == [
        p["pages"] for p in (*report["points"], *report["other_points"])
    ]


def test_the_result_is_said_with_its_interval_and_drawn(report, page):
    root, ratio = parse(page), report["ratio"]
    (lead,) = root.all("p", "result")
    for value in ("value", "low", "high", "lowest_seed", "highest_seed"):
        assert f"{ratio[value]:.3g}"[:3] in lead.words(), value
    assert "95 % interval over 8 tasks" in lead.words()
    headline = root.all("svg", "sizes")[0]
    assert len(headline.all("rect", "overlap")) == 1 and f"x {ratio['value']:.1f}"[:4] in headline.words()
    by_task = root.all("svg", "dots")[0]
    assert len(by_task.all("circle", "dot")) == len(ratio["tasks"]) + 1
    assert "paper: about 16" in by_task.words() and "geometric mean" in by_task.words()


def test_heights_are_logarithms_and_places_are_losses(report, page):
    marks = series_marks(report["points"], shared_tasks(report["points"]), "edges")
    chart = parse(page).all("svg", "sizes")[0]
    drawn = [re.findall(r"[-\d.]+", mark.attributes["transform"]) for mark in chart.all("path", "mark")][:6]
    x, y = np.array(drawn, float)[:, :2].T
    sizes = [size for mark in sorted(marks, key=lambda mark: mark.name) for size in mark.sizes]
    slope, start = np.polyfit([size.loss for size in sizes], x, 1)
    np.testing.assert_allclose(slope * np.array([size.loss for size in sizes]) + start, x, atol=0.2)
    logs = np.log([size.count for size in sizes])
    slope, start = np.polyfit(logs, y, 1)
    np.testing.assert_allclose(slope * logs + start, y, atol=0.2)
    assert slope < 0  # upwards


def test_what_misses_diverges_and_is_left_out_is_told(tmp_path):
    points = made_up.write_all(ASKED, tmp_path)
    counts = dict.fromkeys(made_up.TASKS, 50.0) | {"with_as": None}
    made_up.change(points[0], **made_up.result(points[0], 4.1, counts, missed=("lambda_func",)))
    made_up.change(points[1], loss=None, diverged="the loss is nan at step 7", tasks={}, pages=None)
    root = parse(build_frontier_page("t", summarize(ASKED, points)))
    words = root.words()
    assert "count as all edges of their models: 1, of lambda_func." in words
    met = summarize(ASKED, points)["ratio"]["without_missed"]["value"]
    assert 12 < met < 14 and f"Without these tasks the ratio is {figure(met)}" in words
    assert f"Diverged, and left out: {points[1].name}" in words
    assert len(root.all("svg", "sizes")[0].all("path", "ring")) == 1
    assert "Tasks that the headline leaves out" in words and points[0].name in words
    assert "diverged" in root.all("table")[0].words()


def test_without_anything_measured_or_to_compare_the_page_says_why(tmp_path):
    points = made_up.write_all(ASKED, tmp_path, only=lambda point: False)
    words = parse(build_frontier_page("t", summarize(ASKED, points))).words()
    assert "There is no ratio: one of the two series has no finished model." in words
    assert "No model is measured yet." in words
    apart = made_up.write_all(ASKED, tmp_path)
    for point in apart:
        if point.series == "dense":
            made_up.change(point, loss=2.5)
    words = parse(build_frontier_page("t", summarize(ASKED, apart))).words()
    assert "There is no ratio: the losses do not overlap" in words


def test_names_cannot_end_the_markup(tmp_path):
    hostile = '<img src=x onerror="alert(1)">'
    asked = made_up.config(series=(f"{hostile}: model.d_model=32,64",), compare=())
    page = build_frontier_page(hostile, summarize(asked, made_up.write_all(asked, tmp_path)))
    assert hostile not in page and not parse(page).all("img")


@pytest.mark.parametrize("whole", [True, False])
def test_the_picture_is_a_png(report, whole):
    shown = report if whole else report | {"points": [], "other_points": [], "ratio": report["ratio"] | {
        "value": None, "by_task": {}}}  # fmt: skip
    file = io.BytesIO()
    draw_frontier(shown, file)
    assert file.getvalue().startswith(b"\x89PNG\r\n") and len(file.getvalue()) > 5_000


def test_labels_lie_on_nothing_where_there_is_room():
    rng = np.random.default_rng(0)
    anchors = [(float(x), float(y)) for x, y in rng.uniform(60, 540, (12, 2))]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in anchors] + boxes_along([(0, 0), (600, 600)])
    boxes = place_labels(anchors, [(70, 14)] * 12, taken, (0, 0, 600, 600))

    def shared(a, b):
        width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        return max(0, width) * max(0, height)

    worst = max(shared(box, other) for i, box in enumerate(boxes) for other in [*taken, *boxes[:i]])
    assert worst < 70 * 14 / 4
    for box in boxes:
        assert box[0] >= 0 and box[1] >= 0 and box[2] <= 600 and box[3] <= 600


@pytest.mark.parametrize("values", [[3.7, 4.2], [4.0], [0.0, 0.0], [1e-3, 5e-3], [2.0, 900.0]])
def test_axes_hold_their_values_with_round_ticks_between(values):
    axis = linear_axis(values, 10, 500)
    assert axis.low < min(values) and max(values) < axis.high and 2 <= len(axis.ticks) <= 8
    steps = np.diff(axis.ticks)
    np.testing.assert_allclose(steps, steps[0])
    mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
    assert min(abs(mantissa - each) for each in (1, 2, 5)) < 1e-6
    if min(values) > 0:
        axis = log_axis(values, 500, 10)
        assert axis.low < min(values) and max(values) < axis.high and axis.ticks
        middle = math.sqrt(axis.low * axis.high)
        assert axis.at(middle) == pytest.approx(255, abs=0.1)

"""`frontier.json` says what the measured models say."""

import json
import threading

import pytest

from circuits_jax.runs.frontier import running
from circuits_jax.runs.frontier.points import frontier_points
from circuits_jax.runs.frontier.running import publish
from circuits_jax.runs.frontier.summary import summarize
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.files import write_json
from tests.runs.frontier import made_up

ASKED = made_up.config(
    series=made_up.SERIES + made_up.OTHERS, compare=("dense / sparse", "dense / sparse weights alone")
)


@pytest.fixture
def points(tmp_path):
    return made_up.write_all(ASKED, tmp_path)


def test_the_law_that_the_results_follow_is_found_again(points):
    report = summarize(ASKED, points)
    ratio = report["ratio"]
    assert ratio["value"] == pytest.approx(16, rel=1e-4) and ratio["low"] <= ratio["value"] <= ratio["high"]
    assert ratio["tasks"] == list(made_up.TASKS) and ratio["seeds"] == [0, 1]
    assert ratio == report["comparisons"][0]["edges"] and ratio["missed"] == []
    assert report["comparisons"][0]["nodes"]["value"] == pytest.approx(16, rel=1e-4)
    assert report["comparisons"][1]["larger"] == "dense" and report["comparisons"][1]["edges"]["value"] > 1
    assert report["missing"] == [] and report["hours"]["training"] == pytest.approx(0.1 * len(points))
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_points_of_the_headline_alone_are_under_points(points):
    report = summarize(ASKED, points)
    assert {p["series"] for p in report["points"]} == {"dense", "sparse"}
    assert {p["series"] for p in report["other_points"]} == {row.partition(":")[0] for row in made_up.OTHERS}
    for point in report["points"]:
        assert point["kind"] in ("dense", "sparse") and point["seed"] in (0, 1)
        assert set(point["edges"]) == set(point["nodes"]) == set(made_up.TASKS)
    assert len(report["points"]) == 12


def test_a_task_that_one_model_has_not_learnt_is_left_out_for_all_and_listed(points):
    last = points[-1] if points[-1].series == "sparse" else next(p for p in points if p.series == "sparse")
    known = json.loads(last.result.read_bytes())
    known["tasks"]["with_as"] = {"learnt": False, "why": "the model has not learnt with_as"}
    write_json(last.result, known)
    report = summarize(ASKED, points)
    assert "with_as" not in report["ratio"]["tasks"] and len(report["ratio"]["tasks"]) == 7
    assert report["comparisons"][0]["left_out"] == {"with_as": [last.name]}
    (row,) = [p for p in report["points"] if p["name"] == last.name]
    assert row["edges"]["with_as"] is None and row["not_learnt"] == {
        "with_as": "the model has not learnt with_as"
    }
    assert report["learnt"]["sparse"]["with_as"] == 5
    learnt = report["ratio"]["where_learnt"]
    assert learnt["value"] == pytest.approx(16, rel=1e-3) and set(learnt["by_task"]) == set(made_up.TASKS)
    assert (
        learnt["by_task"]["with_as"] == pytest.approx(16, rel=1e-3) and len(learnt["losses"]["with_as"]) == 2
    )


def test_a_circuit_that_misses_its_target_counts_as_its_whole_model_and_is_marked(points):
    (dense, *_) = points
    known = json.loads(dense.result.read_bytes())
    counts = {task: of["edges"] for task, of in known["tasks"].items()}
    write_json(dense.result, made_up.result(dense, known["loss"], counts, missed=("with_as",)))
    report = summarize(ASKED, points)
    (row,) = [p for p in report["points"] if p["name"] == dense.name]
    assert row["edges"]["with_as"] == row["all_edges"] == 393216 and row["nodes"]["with_as"] == 2816
    assert row["missed"] == ["with_as"] and row["found"]["with_as"]["found_edges"] == counts["with_as"]
    assert report["ratio"]["missed"] == [{"task": "with_as", "model": dense.name}]
    met = report["ratio"]["without_missed"]
    assert met["value"] == pytest.approx(16, rel=1e-4) and report["ratio"]["value"] > 16.1
    assert met["tasks"] == [task for task in made_up.TASKS if task != "with_as"]
    assert report["ratio"]["by_task"]["with_as"] > 20 > report["ratio"]["by_task"]["lambda_func"]


def test_circuits_that_hold_on_select_pairs_alone_count_as_they_are_and_are_told(points):
    (dense, *_) = points
    known = json.loads(dense.result.read_bytes())
    known["tasks"]["with_as"]["test_loss"] = 1.2
    write_json(dense.result, known)
    report = summarize(ASKED, points)
    (row,) = [p for p in report["points"] if p["name"] == dense.name]
    assert row["missed"] == [] and row["missed_on_test"] == ["with_as"]
    ratio = report["ratio"]
    assert ratio["value"] == pytest.approx(16, rel=1e-4) and ratio["missed"] == []
    assert ratio["missed_on_test"] == [{"task": "with_as", "model": dense.name}]
    assert ratio["held_on_test"]["tasks"] == [task for task in made_up.TASKS if task != "with_as"]
    assert ratio["held_on_test"]["value"] == pytest.approx(16, rel=1e-4)


def test_losses_that_do_not_overlap_have_no_ratio(points):
    for point in points:
        if point.kind == "dense":
            made_up.change(point, loss=3.0)
    report = summarize(ASKED, points)
    ratio = report["ratio"]
    assert (ratio["value"], ratio["low"], ratio["high"]) == (None, None, None)
    assert "the losses do not overlap" in ratio["why"] and ratio["tasks"] and ratio["seeds"] == [0, 1]


def test_a_model_that_diverged_is_shown_and_counts_for_nothing(points):
    made_up.change(points[0], loss=None, diverged="the loss is nan at step 7", tasks={})
    report = summarize(ASKED, points)
    (row,) = [p for p in report["points"] if p["diverged"]]
    asked = ("single_double_quote", "bracket_counting", "set_or_string")  # prune.tasks of the configuration
    assert row["loss"] is None and row["edges"] == row["nodes"] == dict.fromkeys(asked)
    assert row["diverged"] == "the loss is nan at step 7" and row["missed"] == row["missed_on_test"] == []
    assert report["ratio"]["value"] == pytest.approx(16, rel=1e-4)


@pytest.mark.parametrize("what", ["corpus", "tokenizer"])
def test_models_of_different_corpora_or_tokenizers_are_refused(points, what):
    made_up.change(points[3], **{what: "f" * 16})
    with pytest.raises(ConfigError, match=f"have different {what} hashes .*not comparable") as caught:
        summarize(ASKED, points)
    assert points[3].name in str(caught.value) and "\n" not in str(caught.value)


def test_while_models_are_missing_what_is_there_is_told(tmp_path):
    points = made_up.write_all(ASKED, tmp_path, only=lambda point: point.series == "dense")
    report = summarize(ASKED, points)
    assert report["ratio"]["why"] == "one of the two series has no finished model"
    assert len(report["points"]) == 6 and len(report["missing"]) == len(points) - 6
    assert summarize(ASKED, frontier_points(ASKED, tmp_path / "new"))["points"] == []


def test_a_result_of_other_settings_is_not_taken(points):
    made_up.change(points[0], identity="another")
    assert summarize(ASKED, points)["missing"] == [points[0].name]


def test_without_a_comparison_there_is_no_ratio_but_trends(tmp_path):
    asked = made_up.config(compare=())
    report = summarize(asked, made_up.write_all(asked, tmp_path))
    assert report["ratio"]["value"] is None and "frontier.compare" in report["ratio"]["why"]
    assert len(report["points"]) == 12 and report["comparisons"] == []
    (dense, _) = report["trends"]
    assert (dense["series"], dense["first"], dense["last"]) == ("dense", "d_model 16", "d_model 64")
    assert dense["loss"] == pytest.approx(-0.3) and dense["edges"]["value"] == pytest.approx(1.822, rel=1e-3)


def test_the_grid_of_rates_is_told_with_what_was_chosen(tmp_path):
    asked = made_up.config(learning_rates=(0.003, 0.01, 0.03))
    points = made_up.write_all(asked, tmp_path)
    dense, sparse = (next(p for p in points if p.series == s and p.size[-2:] in ("32", "28")) for s in
                     ("dense", "sparse"))  # fmt: skip
    for rate, loss in {0.003: 4.0, 0.01: 3.9, 0.03: None}.items():
        path, digest = dense.trial(rate)
        write_json(path, {"identity": digest, "rate": rate, "loss": loss})
    path, digest = sparse.trial(0.003)
    write_json(path, {"identity": digest, "rate": 0.003, "loss": 4.2})
    told = summarize(asked, points)["tuning"]
    assert told["rates"] == [0.003, 0.01, 0.03]
    assert told["series"]["dense"] == {
        "on": dense.name, "losses": {"0.003": 4.0, "0.01": 3.9, "0.03": None}, "chosen": 0.01,
        "at_edge": False,
    }  # fmt: skip
    one = made_up.config(learning_rates=(0.03,))
    told_of_one = summarize(one, made_up.write_all(one, tmp_path / "one"))["tuning"]["series"]["dense"]
    assert told_of_one == {"on": None, "losses": {}, "chosen": 0.03, "at_edge": False}
    assert told["series"]["sparse"]["chosen"] is None and told["series"]["sparse"]["losses"] == {"0.003": 4.2}


def test_whoever_writes_last_has_every_point(tmp_path, monkeypatch):
    """A process that writes an old summary late, after another's point and summary, looks again."""
    points = made_up.write_all(ASKED, tmp_path, only=lambda point: point.seed == 0)
    whole, late = running._write, threading.Event()

    def write(report, folder):
        if not late.is_set():  # another process finishes its points, and publishes, before we have written
            late.set()
            made_up.write_all(ASKED, tmp_path)
            publish(ASKED, points, folder)
        whole(report, folder)

    monkeypatch.setattr(running, "_write", write)
    publish(ASKED, points, tmp_path)
    written = json.loads((tmp_path / "frontier.json").read_bytes())
    assert written["missing"] == [] and len(written["points"]) == 12
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {
        "frontier.json", "frontier.html", "frontier.png",
    }  # fmt: skip

"""The plan: more work takes longer, what is measured corrects what is to come, trials are counted."""

import pytest

from circuits_jax.configs.figures import figures
from circuits_jax.runs.frontier import plan_frontier
from circuits_jax.runs.frontier.planning import pruning_seconds, step_seconds
from circuits_jax.runs.frontier.points import frontier_points
from circuits_jax.storage.files import write_json
from tests.runs.frontier import made_up
from tests.runs.frontier.made_up import with_section

ASKED = made_up.config()


def test_every_point_has_hours_and_memory_and_the_whole_is_their_sum(tmp_path):
    planned = plan_frontier(ASKED, tmp_path)
    assert [each.point for each in planned.points] == frontier_points(ASKED, tmp_path)
    assert planned.hours_to_go == pytest.approx(sum(p.training + p.pruning for p in planned.points))
    assert not any(each.done for each in planned.points) and planned.tuning == {}
    report = planned.report()
    assert report["summary"]["points"] == "12, --points={} of an array 0-11" and len(report["rows"]) == 12
    for row, each in zip(report["rows"], planned.points, strict=True):
        assert row["parameters"] == figures(each.point.config).parameters
        assert row["memory GB"] > 0.5 and row["training hours"] > 0
    assert not list(tmp_path.iterdir())  # a plan writes nothing by itself


def test_wider_longer_and_more_take_longer_and_faster_machines_less():
    wide = with_section(ASKED, "model", d_model=256)
    assert step_seconds(wide, ASKED.frontier) > step_seconds(ASKED, ASKED.frontier)
    fast = made_up.config(flops_per_second=1e15, bytes_per_second=1e15).frontier
    assert step_seconds(wide, fast) < step_seconds(wide, ASKED.frontier) / 5
    assert pruning_seconds(wide, ASKED.frontier) > pruning_seconds(ASKED, ASKED.frontier)
    trials = with_section(ASKED, "prune", trials=8)
    assert pruning_seconds(trials, ASKED.frontier) > 3 * pruning_seconds(ASKED, ASKED.frontier)


def test_what_is_measured_counts_as_it_was_and_corrects_the_rest(tmp_path):
    before = plan_frontier(ASKED, tmp_path)
    points = made_up.write_all(ASKED, tmp_path, only=lambda point: point.series == "dense")
    estimated = sum(each.training for each in before.points if each.point.series == "dense")
    after = plan_frontier(ASKED, tmp_path)
    factor = 0.1 * 6 / estimated
    for old, new in zip(before.points, after.points, strict=True):
        if new.point.series == "dense":
            assert new.done and (new.training, new.pruning) == (0.1, 0.05)
        else:
            assert not new.done and new.training == pytest.approx(factor * old.training)
    assert after.hours_to_go == pytest.approx(sum(p.training + p.pruning for p in after.points[6:]))
    assert made_up.write_all(ASKED, tmp_path) == points
    assert plan_frontier(ASKED, tmp_path).hours_to_go == 0


def test_trials_beside_what_is_trained_anyway_are_counted_and_slots_share_the_hours(tmp_path):
    asked = made_up.config(learning_rates=(0.003, 0.01, 0.03), slots=4)
    planned = plan_frontier(asked, tmp_path)
    middle = next(each for each in planned.points if each.point.size == "d_model 32")
    assert planned.tuning["dense"] == (2, pytest.approx(2 * middle.training))
    path, digest = middle.point.trial(0.01)
    write_json(path, {"identity": digest, "rate": 0.01, "loss": 4.0})
    again = plan_frontier(asked, tmp_path)
    assert again.tuning["dense"][0] == 1 and again.hours_to_go < planned.hours_to_go
    assert plan_frontier(made_up.config(learning_rates=(0.01,)), tmp_path).tuning == {}
    summary = planned.report()["summary"]
    assert summary["hours to go, 4 at a time"] == pytest.approx(planned.hours_to_go / 4, abs=0.01)

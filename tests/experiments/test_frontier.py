"""The command `frontier`: its plan, and what it refuses in one line."""

import json

import pytest

from circuits_jax.config import Config
from circuits_jax.configs.finding import load_config, shipped_names
from circuits_jax.runs.frontier import plan_frontier
from tests.experiments.command import finish, start
from tests.quick import quick_cases

FRONTIERS = [name for name in shipped_names() if name.startswith("frontier_")]


def command(tmp_path, *flags):
    return finish(start(tmp_path / "programs", "frontier", "--cpu_devices=1", *flags))


def test_a_plan_is_printed_and_written_and_trains_nothing(tmp_path):
    workdir = tmp_path / "run"
    code, out, errors = command(
        tmp_path,
        "--plan",
        f"--workdir={workdir}",
        "--config.frontier.seeds=(0,1,2)",
        "--config.train.steps=99",
    )
    assert (code, errors) == (0, [])
    written = json.loads((workdir / "plan.json").read_bytes())
    assert [path.name for path in workdir.iterdir()] == ["plan.json"]
    assert {row["seed"] for row in written["rows"]} == {0, 1, 2} and {
        row["steps"] for row in written["rows"]
    } == {99}
    for line in (
        "hours to go, one after another",
        "memory of the largest",
        "trials of learning rates, dense",
    ):
        assert line in out
    assert len(out.splitlines()) == len(written["summary"]) + 1 + len(written["rows"])


REFUSED = {
    "plan of points": (["--plan", "--points=1"], ["--points", "--plan"]),
    "no such point": (["--points=99"], ["there is no point 99", "0 to 13"]),
    "no number": (["--points=x"], ["--points=x", "no number"]),
    "no frontier": (["--config=quickstart"], ["frontier.series is empty"]),
    "no series": (
        ["--config.frontier.compare=('dense / spares',)"], ["'spares'", "there are dense, sparse"],
    ),
    "no setting": (
        ["--config.frontier.series=('dense: model.width=3',)", "--config.frontier.compare=()"],
        ["model.width"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("refused", quick_cases(REFUSED, ("no such point",)))
def test_what_cannot_be_run_is_one_line(tmp_path, refused):
    flags, words = refused
    code, out, errors = command(tmp_path, f"--workdir={tmp_path / 'run'}", *flags)
    assert (code, out) == (1, "") and not (tmp_path / "run").exists()
    (line,) = errors
    assert line.startswith("error: ") and [word for word in words if word not in line] == []


@pytest.mark.parametrize("name", FRONTIERS)
def test_a_shipped_frontier_can_be_planned(name, tmp_path):
    config = load_config(name)
    assert isinstance(config, Config) and config.frontier.series
    planned = plan_frontier(config, tmp_path)
    assert 0 < planned.hours_to_go < 100
    kinds = {each.point.kind for each in planned.points}
    assert kinds == ({"sparse"} if name == "frontier_width" else {"dense", "sparse"})
    assert all(0 < each.point.config.sparsity.target <= 1 for each in planned.points)


def test_the_laptops_fits_three_hours_of_two_cores_that_train_a_model_each(tmp_path):
    planned = plan_frontier(load_config("frontier_laptop"), tmp_path)
    assert planned.slots == 2 and 1.5 < planned.hours_to_go / planned.slots < 3


def test_widths_have_as_many_nonzeros_each(tmp_path):
    rows = plan_frontier(load_config("frontier_width"), tmp_path).report()["rows"]
    for row in rows:
        asked = int(row["series"].split()[0])
        assert row["nonzeros"] == pytest.approx(asked, rel=1e-3)
    assert len({(row["series"], row["size"]) for row in rows}) == 6

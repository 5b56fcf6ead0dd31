"""Lists of recipes: which runs they ask for, and that a stopped command goes on."""

import dataclasses
import json
import pathlib
import time
from types import SimpleNamespace

import pytest

from circuits_jax.runs import recipes
from circuits_jax.runs.listed_runs import TrainingFigures
from circuits_jax.storage.errors import ConfigError
from circuits_jax.tasks import TASKS, load_task
from circuits_jax.training import loop
from tests.experiments.command import finish, start
from tests.training.tiny import write_programs

TINY = {
    "model.n_layer": 1, "model.d_model": 16, "model.n_ctx": 64, "model.vocab_size": 320, "train.steps": 2,
    "train.batch_size": 2, "train.eval_every": 2, "train.eval_batches": 1, "data.generated_share": 0.0,
    "data.validation_fraction": 0.25,
}  # fmt: skip


def write(tmp_path, chosen, seeds=(0,)):
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"config": "quickstart", "seeds": list(seeds), "recipes": chosen}))
    return path


def test_every_recipe_is_asked_with_every_seed(tmp_path):
    path = write(tmp_path, {"as it is": {}, "Wide & sparse": {"model.d_model": 256}}, (0, 7))
    points = recipes.read_points(path, tmp_path)
    assert [(point.name, point.seed) for point in points] == [
        ("as it is", 0), ("as it is", 7), ("Wide & sparse", 0), ("Wide & sparse", 7),
    ]  # fmt: skip
    assert [point.folder.name for point in points[1:3]] == ["as-it-is-7", "wide-sparse-0"]
    assert points[3].config.model.d_model == 256 and points[3].config.train.seed == 7
    assert len({point.config.data.store for point in points}) == 1
    assert recipes.read_points(path, tmp_path, ["as it is"]) == points[:2]


LISTS = sorted((pathlib.Path(__file__).parents[2] / "experiments/benchmarks/lists").glob("*.json"))


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_the_lists_of_the_repository_can_be_run(path, tmp_path):
    listed = json.loads(path.read_text("utf-8"))
    assert len(recipes.read_points(path, tmp_path)) == len(listed["recipes"]) * len(listed["seeds"]) > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "is no list of recipes"),
        ("{", "is no list of recipes"),
        ('{"config": "quickstart", "seeds": [0]}', "is no list of recipes"),
        ('{"config": "quickstart", "seeds": [0], "recipes": {"a": 3}}', "is no list of recipes"),
        ('{"config": "quickstart", "seeds": [0], "settings": 3, "recipes": {}}', "is no list of recipes"),
        ('{"config": "quickstart", "seeds": [], "recipes": {"a": {}}}', "asks for no run"),
        ('{"config": "quickstart", "seeds": [0], "recipes": {}}', "asks for no run"),
        ('{"config": "nope", "seeds": [0], "recipes": {"a": {}}}', "no configuration 'nope'"),
        ('{"config": "quickstart", "seeds": [0], "recipes": {"a": {"train.stepz": 1}}}', "train.stepz"),
        ('{"config": "quickstart", "seeds": [0, 0], "recipes": {"a": {}}}', "is the same as 'a' with seed 0"),
        (
            '{"config": "quickstart", "settings": {"train.steps": 9}, "seeds": [0], '
            '"recipes": {"a": {}, "b": {"train.steps": 9}}}',
            "'b' with seed 0 is the same as 'a' with seed 0",
        ),
        (
            '{"config": "quickstart", "seeds": [0], "recipes": {"a b": {}, "a-b": {"train.steps": 4}}}',
            "'a-b' with seed 0 is the same as 'a b'",
        ),
    ],
)
def test_a_list_that_cannot_be_run_is_refused_before_any_training(tmp_path, text, message):
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        recipes.read_points(path, tmp_path)
    with pytest.raises(ConfigError, match="no recipe 'c'"):
        recipes.read_points(write(tmp_path, {"a": {}}), tmp_path, ["c"])


def test_means_are_over_seeds_and_of_what_all_of_them_have():
    rows = [
        {"recipe": "a", "seed": 0, "loss": 1.0, "odd": 0.5},
        {"recipe": "b", "seed": 0, "loss": 5.0},
        {"recipe": "a", "seed": 1, "loss": 3.0},
    ]
    assert recipes.means(rows) == [
        {"recipe": "a", "seeds": 2, "loss": 2.0},
        {"recipe": "b", "seeds": 1, "loss": 5.0},
    ]


@pytest.fixture
def trained(monkeypatch):
    """What was scored, where nothing is trained and each step takes a minute by the clock."""
    clock, scored = [0.0], []

    class Trained:
        def __init__(self, config, folder):
            self.folder, self.model = folder, SimpleNamespace(hash="one")

        def score(self, task, split):
            scored.append(task.name)
            return {"accuracy": 0.5}

    def train(config, folder):
        log = folder / "metrics.jsonl"
        taken = len(log.read_text().splitlines()) if log.exists() else 0
        folder.mkdir(parents=True, exist_ok=True)
        with log.open("a") as out:
            out.writelines(f'{{"step": {step + 1}}}\n' for step in range(taken, config.train.steps))
        clock[0] += 60 * (config.train.steps - taken)
        return Trained(config, folder)

    monkeypatch.setattr(recipes, "train", train)
    monkeypatch.setattr(recipes.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(recipes, "training_figures", lambda run: TrainingFigures(3.0, 1.0, 1.0))
    return scored


def test_what_is_to_go_is_told_by_the_steps_that_are_not_taken_yet(tmp_path, trained):
    chosen = {name: {"train.steps": steps} for name, steps in (("a", 4), ("b", 10), ("c", 6), ("d", 9))}
    points = recipes.read_points(write(tmp_path, chosen), tmp_path)
    (tmp_path / "b-0").mkdir()
    (tmp_path / "b-0" / "metrics.jsonl").write_text("".join(f'{{"step": {n + 1}}}\n' for n in range(7)))
    recipes.run_points(points[2:3], [], "select", tmp_path, lambda line: None)  # done before
    notes = []
    recipes.run_points(points, [], "select", tmp_path, notes.append)
    assert [note.partition(", about ")[2] for note in notes] == [
        "", "12 minutes to go", "9 minutes to go", "9 minutes to go",
    ]  # fmt: skip


def test_rows_of_earlier_commands_stay_and_each_split_has_its_file(tmp_path, trained):
    points = recipes.read_points(write(tmp_path, {"a": {}, "b": {"train.steps": 9}}), tmp_path)

    def rows_of(split):
        return [
            row["recipe"] for row in json.loads(recipes.recipes_file(tmp_path, split).read_bytes())["rows"]
        ]

    for asked in (points[:1], points[1:], points[:1]):
        recipes.run_points(asked, [], "select", tmp_path, lambda line: None)
    recipes.run_points(points[1:], [], "test", tmp_path, lambda line: None)
    assert (rows_of("select"), rows_of("test")) == (["b", "a"], ["b"])
    mixed = recipes.recipes_file(tmp_path, "select")  # as earlier versions left it after --split=test
    mixed.write_bytes(recipes.recipes_file(tmp_path, "test").read_bytes())
    recipes.run_points(points[:1], [], "select", tmp_path, lambda line: None)
    assert rows_of("select") == ["a"]
    with pytest.raises(ConfigError, match="test pairs are for the one recipe that was chosen"):
        recipes.run_points(points, [], "test", tmp_path, lambda line: None)


def test_a_task_that_has_changed_is_asked_again(tmp_path, trained):
    points = recipes.read_points(write(tmp_path, {"a": {"train.steps": 1}}), tmp_path)
    task = TASKS["var_swap"]
    changed = dataclasses.replace(task, words=TASKS["with_as"].words | {"select": {}})
    for asked in (task, task, changed):
        recipes.run_points(points, [asked], "select", tmp_path, lambda line: None)
    assert trained == ["var_swap"] * 2


@pytest.mark.slow
def test_a_list_is_trained_scored_and_not_trained_again(tmp_path, monkeypatch):
    write_programs(tmp_path / "code")
    chosen = {"a": TINY | {"data.roots": [str(tmp_path / "code")]}}
    points = recipes.read_points(write(tmp_path, chosen), tmp_path / "runs")
    lines = [
        {
            "a": f"{x} = 1; {y} = ",
            "b": f"{x} = 2; {y} = ",
            "answer_a": "1",
            "answer_b": "2",
            "split": split,
        }
        for place, x in enumerate("abcdefghijklm")
        for y in "nopqrstuvwxyz"
        for split in ({0: "train", 1: "test"}.get(place, "select"),)
    ]
    (tmp_path / "copy.jsonl").write_text("\n".join(map(json.dumps, lines)))
    asked, notes = [load_task(tmp_path / "copy.jsonl")], []
    (row,) = recipes.run_points(points, asked, "select", tmp_path / "runs", notes.append)
    assert row["recipe"] == "a" and 0 < row["bits per byte"] < 10 and 0 <= row["copy"] <= 1
    assert row["learnt"] == (row["copy"] >= recipes.LEARNT)
    assert notes == ["point 1 of 1: a, seed 0"]
    written = json.loads((tmp_path / "runs" / "recipes.json").read_bytes())
    assert written["split"] == "select" and written["rows"] == [row]

    whole, begun_at = loop.Trainer._loop, []
    monkeypatch.setattr(loop.Trainer, "_loop", lambda *given: begun_at.append(given[2]) or whole(*given))
    assert recipes.run_points(points, asked, "select", tmp_path / "runs", notes.append) == [row]
    assert begun_at == [2]  # of two steps: none was taken again


def test_the_command_starts_on_any_number_of_devices(tmp_path):
    given = (f"--list={tmp_path / 'none.json'}", f"--workdir={tmp_path / 'runs'}", "--cpu_devices=2")
    code, _, errors = finish(start(tmp_path, "benchmarks.recipes", *given))
    assert code == 1 and len(errors) == 1 and "none.json is no list of recipes" in errors[0]


@pytest.mark.slow
def test_a_command_that_is_asked_to_stop_says_so_in_one_line(tmp_path):
    write_programs(tmp_path / "tree")
    settings = {"train.steps": 100_000, "train.log_every": 1, "data.roots": [str(tmp_path / "tree")]}
    path = write(tmp_path, {"long": TINY | settings})
    process = start(tmp_path, "benchmarks.recipes", f"--list={path}", f"--workdir={tmp_path / 'runs'}")
    metrics, end = tmp_path / "runs" / "long-0" / "metrics.jsonl", time.monotonic() + 240
    while not metrics.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
    process.terminate()
    code, out, errors = finish(process)
    assert (code, errors) == (143, []) and "asked to stop (SIGTERM)" in out.splitlines()[-1]

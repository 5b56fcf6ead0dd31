"""A model is measured once, by one process; its rate is chosen first; one that diverges is told of."""

import types

import numpy as np
import pytest

from circuits_jax.circuits.circuit import Circuit
from circuits_jax.config import ModelConfig, PruneConfig
from circuits_jax.model.transformer import init_params
from circuits_jax.runs.frontier import measure as module
from circuits_jax.runs.frontier.measure import best_rate, chosen_rate, measure, measured, task_figures, trials
from circuits_jax.runs.frontier.points import frontier_points
from circuits_jax.runs.listed_runs import TrainingFigures
from circuits_jax.runs.pruning import Outcome
from circuits_jax.storage.errors import DivergenceError
from circuits_jax.storage.locks import locked
from tests.runs.frontier import made_up

MODEL = ModelConfig(n_layer=1, d_model=16, vocab_size=32, n_ctx=8)
BEST = {"dense": 0.01, "sparse": 0.03}


def circuit(task, edges, met=True):
    """A circuit of so many edges, as far as what is told of it goes."""
    told = dict.fromkeys(
        (
            "select/calibrated_loss", "test/calibrated_loss", "test/calibrated_accuracy", "test/accuracy",
            "full/select/calibrated_loss", "full/test/calibrated_loss",
        ),
        0.1,
    )  # fmt: skip
    found = types.SimpleNamespace(
        task=task, nodes=(None,) * 3, edges=(None,) * edges, metrics=told, provenance={"met_target": met}
    )
    return found


@pytest.fixture
def work(monkeypatch):
    """Trainings and prunings take no time here; gives what was done, in order."""
    done, params = [], init_params(MODEL, __import__("jax").random.key(0))

    def train(config, folder):
        rate, kind = config.optimizer.learning_rate, "dense" if config.sparsity.target == 1 else "sparse"
        done.append((kind, config.model.d_model, config.train.seed, rate, config.data.hash))
        if rate > 1:
            raise DivergenceError("the loss is nan at step 7")
        model = types.SimpleNamespace(hash="m" * 16, config=MODEL, params=params)
        run = types.SimpleNamespace(
            folder=folder, model=model, rate=rate, kind=kind,
            corpus=types.SimpleNamespace(hash="c" * 16), tokenizer=types.SimpleNamespace(hash="t" * 16),
        )  # fmt: skip
        return run

    def prune(run, tasks, config):
        done.append("pruned")
        return [
            Outcome("quotes", circuit("quotes", 5), None, None),
            Outcome("brackets", circuit("brackets", 9000, met=False), None, None),
            Outcome("with_as", None, "the model has not learnt with_as", None),
        ]

    def pages(run, outcomes, summary):
        done.append([(each.task, each.circuit is not None, each.refusal) for each in outcomes])

    monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(module, "prune_tasks", prune)
    monkeypatch.setattr(module, "write_pages", pages)
    monkeypatch.setattr(
        module, "training_figures", lambda run: TrainingFigures(4 + abs(run.rate - BEST[run.kind]), 1.7, 6.0)
    )
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.01)
    return done


def test_one_rate_is_taken_without_a_trial_so_that_nobody_waits_for_one(work, tmp_path):
    points = frontier_points(made_up.config(learning_rates=(0.03,)), tmp_path)
    trial = points[0].trial(0.03)[0]
    with locked(trial.parent, f".{trial.stem}.lock"):  # as if another process were at it
        assert chosen_rate(points[0], points, print) == 0.03
    assert work == []
    given = frontier_points(made_up.config(), tmp_path)
    assert chosen_rate(given[0], given, print) == made_up.config().optimizer.learning_rate


def test_a_point_is_trained_pruned_drawn_and_not_measured_again(work, tmp_path):
    points = frontier_points(made_up.config(), tmp_path)
    notes = []
    found = measure(points[0], points, notes.append)
    assert (
        found == measured(points[0]) and found["loss"] == pytest.approx(4) and found["training_hours"] == 0.1
    )
    assert found["tasks"]["with_as"] == {"learnt": False, "why": "the model has not learnt with_as"}
    quotes, brackets = found["tasks"]["quotes"], found["tasks"]["brackets"]
    assert (quotes["edges"], quotes["nodes"], quotes["met"]) == (5, 3, True)
    assert brackets["edges"] == found["all_edges"] == 4 * 16 * 16 + 8 * 16 * 16
    assert brackets["nodes"] == found["all_nodes"] == 11 * 16 and brackets["found_edges"] == 9000
    assert found["pages"] == f"models/{found['folder']}/report.html"
    training, pruning, drawn = work
    assert training == ("dense", 16, 0, 0.01, None) and pruning == "pruned"
    assert drawn[0] == ("quotes", True, None) and "9,000 edges is not drawn" in drawn[1][2]
    assert measure(points[0], points, notes.append) == found and len(work) == 3 and notes == []


def test_later_models_take_the_corpus_of_the_first_and_read_no_sources(work, tmp_path):
    points = frontier_points(made_up.config(), tmp_path)
    (tmp_path / "corpora" / ("c" * 16)).mkdir(parents=True)
    measure(points[0], points, print)
    measure(points[-1], points, print)
    assert [step[-1] for step in work if isinstance(step, tuple)] == [None, "c" * 16]


def test_where_results_were_handed_on_without_their_corpus_it_is_made_anew(work, tmp_path):
    points = frontier_points(made_up.config(), tmp_path)
    measure(points[0], points, print)
    measure(points[-1], points, print)
    assert [step[-1] for step in work if isinstance(step, tuple)] == [None, None]


def test_the_rate_of_lowest_loss_is_taken_by_the_whole_series(work, tmp_path):
    points = frontier_points(made_up.config(learning_rates=(0.003, 0.01, 0.03)), tmp_path)
    by_name = {point.name: point for point in points}
    found = measure(by_name["sparse, target 1/8 d_model 64, seed 1"], points, print)
    assert found["learning_rate"] == 0.03
    trained = [step[:4] for step in work if isinstance(step, tuple)]
    middle = [("sparse", 128, 0, rate) for rate in (0.003, 0.01, 0.03)]
    assert trained == [*middle, ("sparse", 64, 1, 0.03)]
    measure(by_name["sparse, target 1/16 d_model 128, seed 0"], points, print)  # trains where its trial did
    assert measure(by_name["dense, d_model 16, seed 0"], points, print)["learning_rate"] == 0.01
    folders = points[0].run(0.01).folder.parent
    assert by_name["sparse, target 1/16 d_model 128, seed 0"].run(0.03).folder.parent == folders


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ({0.1: 4.0, 0.2: 3.9}, 0.2),
        ({0.1: 4.0, 0.2: None}, 0.1),
        ({0.2: None, 0.1: None}, 0.1),
        ({0.2: 4, 0.1: 4}, 0.1),
    ],
)
def test_the_best_rate(losses, best):
    assert best_rate(losses) == best


def test_a_rate_that_diverges_is_not_chosen_and_a_model_that_diverges_is_told_of(work, tmp_path):
    points = frontier_points(made_up.config(learning_rates=(0.01, 2.0)), tmp_path)
    assert measure(points[0], points, print)["learning_rate"] == 0.01
    assert trials(points[:6])[2.0]["loss"] is None
    points = frontier_points(made_up.config(learning_rates=(3.0,)), tmp_path / "high")
    notes = []
    found = measure(points[0], points, notes.append)
    assert found["diverged"] == "the loss is nan at step 7" and found["loss"] is None and found["tasks"] == {}
    assert "diverged: the loss is nan" in notes[-1]
    work.clear()
    assert measure(points[0], points, print) == found and work == []


def test_a_point_that_another_process_measures_is_left_out_and_told(work, tmp_path):
    points = frontier_points(made_up.config(), tmp_path)
    notes = []
    with locked(points[0].result.parent, f".{points[0].result.stem}.lock"):
        assert measure(points[0], points, notes.append) is None
    assert notes == [f"left out for now: {points[0].name}, which another process measures"] and work == []
    assert measure(points[0], points, notes.append) is not None


def test_trials_of_another_process_are_waited_for(work, tmp_path, monkeypatch):
    points = frontier_points(made_up.config(learning_rates=(0.01, 0.03)), tmp_path)
    tried = points[2]
    path, digest = tried.trial(0.03)
    notes = []
    lock = locked(path.parent, f".{path.stem}.lock")
    lock.__enter__()

    def sleep(seconds):  # while we wait, the other one finishes
        module.write_json(path, {"identity": digest, "rate": 0.03, "loss": 1.0})
        lock.__exit__(None, None, None)

    monkeypatch.setattr(module.time, "sleep", sleep)
    assert chosen_rate(points[0], points, notes.append) == 0.03
    assert [note for note in notes if note.startswith("waiting for other processes")] == [notes[-1]]
    assert [step[3] for step in work] == [0.01]


def test_what_a_task_tells_is_what_the_circuit_tells():
    found = task_figures(
        Outcome("t", circuit("t", 7), None, None), PruneConfig(), {"all_edges": 100, "all_nodes": 50}
    )
    assert found["slack"] == PruneConfig().slack and found["test_loss"] == 0.1
    assert set(found) >= {"model_select_loss", "uncalibrated_accuracy", "found_nodes"}
    assert issubclass(Circuit, object) and np.isfinite(found["select_loss"])

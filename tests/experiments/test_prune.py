"""Many tasks by one command: the circuits are the planted ones, and what is done is not done again."""

import dataclasses
import types

import jax
import numpy as np
import pytest

from circuits_jax.circuits.planted import plant
from circuits_jax.config import ABLATIONS, Config, PruneConfig, TrainConfig
from circuits_jax.data.windows import Windows
from circuits_jax.model.fingerprint import model_hash
from circuits_jax.model.sites import node_sites
from circuits_jax.runs import exhausting, pruning
from circuits_jax.runs.ablations import compare_ablations
from circuits_jax.runs.run import Run
from circuits_jax.storage.errors import ConfigError, MemoryLackError, TaskError
from circuits_jax.training.workdir import claim
from circuits_jax.viewer.alternatives import alternatives
from tests.experiments.command import finish, start

TASKS = ("quotes", "quotes again", "riddle")
PRUNE = PruneConfig(
    tasks=TASKS,
    steps=20,
    batch_pairs=16,
    trials=2,
    train_pairs=32,
    select_pairs=32,
    test_pairs=32,
    mean_batches=2,
    edge_steps=0,
    importance_nodes=0,
)


@pytest.fixture(scope="module")
def planted():
    return plant("quotes", 0, 32, 32, 32)


@pytest.fixture
def run(monkeypatch, planted, tmp_path):
    """A run of the planted network; the tasks are its own, twice, and one it does not know."""

    def pairs(task, tokenizer, split, count, seed, n_ctx):
        found = getattr(planted.splits, split)
        rng = np.random.default_rng(0)
        answers = found.answers
        if task.name == "riddle":
            swapped = rng.random(len(answers)) < 0.5
            answers = np.where(swapped[:, None], answers[:, ::-1], answers)
        return dataclasses.replace(found, task=task.name, answers=answers)

    def known(name):
        if name not in TASKS:
            raise AssertionError(name)
        return types.SimpleNamespace(name=name, file="", digest="")

    monkeypatch.setattr(pruning, "build_pairs", pairs)
    monkeypatch.setattr(pruning, "get_task", known)
    config = Config(model=planted.config, train=TrainConfig(batch_size=64))
    tokenizer = types.SimpleNamespace(hash="words")
    rows = planted.corpus.reshape(-1, planted.config.n_ctx)
    tokens = np.pad(rows, ((0, 0), (0, 1)))

    model = dataclasses.replace(planted.model, tokenizer=tokenizer)
    return Run(
        model, tmp_path, config, prepared=types.SimpleNamespace(train=Windows(tokens, {}), hash="corpus")
    )


@pytest.fixture
def pruners(monkeypatch):
    """The pruners that were made."""
    made = []

    def make(*args):
        made.append(whole_pruner(*args))
        return made[-1]

    whole_pruner = pruning.Pruner
    monkeypatch.setattr(pruning, "Pruner", make)
    return made


@pytest.mark.slow
def test_every_task_gets_its_smallest_circuit_and_a_second_call_prunes_nothing(
    planted, run, pruners, tmp_path, capsys
):
    outcomes = pruning.prune_tasks(run, pruning.tasks_of(TASKS), PRUNE)
    assert [outcome.task for outcome in outcomes] == list(TASKS)
    for outcome in outcomes[:2]:
        assert set(outcome.circuit.nodes) == set(planted.nodes)
        assert outcome.circuit.provenance["met_target"]
        steps, nodes, losses = zip(*outcome.circuit.provenance["history"], strict=True)
        assert steps[0] == 0 and steps[-1] == PRUNE.steps and list(steps) == sorted(set(steps))
        assert sum(node_sites(planted.config).values()) >= nodes[0] > nodes[-1] > 0
        assert losses[0] is None and min(losses[1:]) >= 0
    assert outcomes[0].circuit.metrics["run/k_coef"] == outcomes[1].circuit.metrics["run/k_coef"]
    assert outcomes[2].circuit is None and "riddle" in outcomes[2].refusal
    assert (
        len(pruners) == 1 and pruners[0].compilations <= 6
    )  # for three tasks, two trials and two lengths of run
    progress = capsys.readouterr().err.splitlines()
    best = f"quotes {len(planted.nodes)} nodes {len(planted.edges)} edges"
    assert any(best in line for line in progress) and "prune 80 of 80 step" in progress[-1], progress[-3:]

    fewer = dataclasses.replace(PRUNE, tasks=TASKS[:2])
    again = pruning.prune_tasks(run, pruning.tasks_of(fewer.tasks), fewer)
    assert len(pruners) == 1
    assert [outcome.circuit.nodes for outcome in again] == [outcome.circuit.nodes for outcome in outcomes[:2]]

    # The same name and settings, but other pairs: a user's file that was edited is pruned for anew.
    edited = dataclasses.replace(planted.test, answers=planted.test.answers[:, ::-1])
    identity = model_hash(planted.config, planted.params)
    for test, circuit in ((planted.test, outcomes[0].circuit), (edited, None)):
        folder, splits = tmp_path / "circuits" / TASKS[0], planted.splits._replace(test=test)
        found = pruning.finished(folder, PRUNE, identity, splits)
        assert (found and found.nodes) == (circuit and circuit.nodes)

    rows = pruning.pruning_table(outcomes)
    assert [row["task"] for row in rows] == list(TASKS)
    assert rows[0]["nodes"] == len(planted.nodes) and rows[0]["target"] == "met" and rows[2]["refused"]


def test_a_device_without_the_memory_for_pruning_is_one_line(run, monkeypatch):
    def search(*args):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9663676416 bytes.")

    monkeypatch.setattr(pruning, "_search", search)
    with pytest.raises(MemoryLackError, match="9 GiB asked for.*prune.batch_pairs"):
        pruning.prune_tasks(run, pruning.tasks_of(TASKS), PRUNE)


def test_two_tasks_of_one_name_are_refused(run, monkeypatch):
    tasks = {
        "mine.py": types.SimpleNamespace(name="quotes", description="another", file="mine.py"),
        "var_if.py": types.SimpleNamespace(name="var_if", file="var_if.py"),
    }
    known = pruning.get_task
    monkeypatch.setattr(pruning, "get_task", lambda name: tasks.get(name) or known(name))
    for names in (("quotes", "mine.py"), ("var_if.py",)):
        name = tasks[names[-1]].name
        changed = dataclasses.replace(PRUNE, tasks=names)
        with pytest.raises(TaskError, match=f"two tasks are called '{name}'"):
            pruning.prune_tasks(run, pruning.tasks_of(changed.tasks), changed)


@pytest.mark.parametrize(
    ("flag", "says"), [("--trials=0", "prune.trials is 0"), ("--tasks=", "--tasks is empty")]
)
def test_flags_that_cannot_be_used_are_refused_in_one_line(tmp_path, flag, says):
    claim(tmp_path / "run", Config())
    code, _, errors = finish(start(tmp_path, "prune", f"--workdir={tmp_path / 'run'}", flag))
    assert code == 1 and len(errors) == 1 and says in errors[0]


@pytest.mark.slow
def test_circuits_are_cut_and_judged_under_every_ablation(planted, run, tmp_path):
    prune = dataclasses.replace(PRUNE, tasks=TASKS[:1], steps=100, k_coef=5e-4, trials=1)
    tasks = pruning.tasks_of(prune.tasks)
    rows = compare_ablations(run, tasks, prune, ["all"])
    assert [row["pruned under"] for row in rows] == list(ABLATIONS)
    for row in rows:
        kind = row["pruned under"]
        assert row["target"] == "met" and row[f"alone, {kind}"] < prune.target
        assert 0 < row["nodes"] <= 2 * len(planted.nodes) and row["edges"] > 0
    assert min(rows[0][f"without, {kind}"] for kind in ("mean", "resample", "counterfactual")) > 0.5
    assert rows[0]["nodes"] == len(planted.nodes)
    (own,) = run.circuits
    assert own.ablation == "mean" and "under mean ablation" in str(own)
    there = {path.parent.parent.name for path in (tmp_path / "ablations").glob("*/*/circuit.json")}
    assert there == set(ABLATIONS) - {"mean"}
    assert compare_ablations(run, tasks, prune, ["counterfactual"])[0]["nodes"] == rows[3]["nodes"]


@pytest.mark.parametrize(
    ("given", "why"), [(["median"], "ablations is 'median'"), ([], "no ablation is named")]
)
def test_an_ablation_that_there_is_not_is_refused(given, why):
    with pytest.raises(ConfigError, match=why):
        compare_ablations(None, [], PRUNE, given)


@pytest.mark.slow
def test_circuits_are_searched_until_there_is_no_other_and_what_is_done_is_not_done_again(
    planted, run, tmp_path, monkeypatch
):
    monkeypatch.setattr(exhausting, "_write_page", lambda *rest: None)  # it needs a real tokenizer
    prune = dataclasses.replace(PRUNE, tasks=TASKS[:1], steps=100, k_coef=5e-4, trials=1)
    (found,) = exhausting.exhaust_tasks(run, pruning.tasks_of(prune.tasks), prune, 8)
    assert [set(circuit.nodes) for circuit in found.circuits] == [set(planted.nodes)] and found.exhausted
    (row,) = found.rows
    assert row["circuit"] == "1 of 1" and row["f"] > 0.8 and row["rise"] > 0.5
    assert "one circuit, and no other" in alternatives(tmp_path, "quotes", found.circuits[0])
    monkeypatch.setattr(exhausting, "_search", None)
    (again,) = exhausting.exhaust_tasks(run, pruning.tasks_of(prune.tasks), prune, 8)
    assert (again.words, again.rows) == (found.words, found.rows)

"""What an exhaustive search keeps, and that one that was stopped goes on."""

import dataclasses
import json
import types

import numpy as np
import pytest

from circuits_jax.circuits.circuit import Calibration, Circuit, Node, load_circuit
from circuits_jax.config import ModelConfig, PruneConfig, to_dict
from circuits_jax.runs import exhausting
from circuits_jax.runs.exhausting import exhaust_table, exhaust_tasks
from circuits_jax.runs.pruning import task_splits
from circuits_jax.storage.errors import TaskError
from circuits_jax.tasks import load_task
from circuits_jax.viewer.alternatives import NOT_SEARCHED, alternatives
from tests.tasks.word_tokenizer import WordTokenizer

PRUNE = PruneConfig(train_pairs=8, select_pairs=8, test_pairs=8)
CONFIG = ModelConfig(n_layer=1, d_model=8, d_head=8, n_ctx=64, vocab_size=8)


def row(number, split):
    start = f"cost = {number} and a b c d e f "
    return {"a": start + "x (", "b": start + "y (", "answer_a": "one)", "answer_b": "two)", "split": split}


@pytest.fixture
def task(tmp_path):
    path = tmp_path / "mine.jsonl"
    parts = enumerate(("train", "select", "test"))
    rows = [row(100 * part + n, split) for part, split in parts for n in range(9)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return load_task(path)


@pytest.fixture
def run(tmp_path):
    model = types.SimpleNamespace(config=CONFIG, hash="a" * 64)
    whole = types.SimpleNamespace(prune=PruneConfig())
    corpus = types.SimpleNamespace(hash="corpus")
    return types.SimpleNamespace(
        folder=tmp_path / "run", model=model, whole_config=whole, corpus=corpus, tokenizer=WordTokenizer()
    )


def circuit(run, task, index, prune=PRUNE):
    """One of a single node."""
    settings = exhausting.settings_for(run, [task], prune)
    provenance = {
        "prune": to_dict(settings),
        "met_target": True,
        "pairs": [pairs.digest for pairs in task_splits(run, task, settings)],
    }
    return Circuit(
        task.name, (Node("0.mlp.post_act", index),), (), (False,),
        {"0.mlp.post_act": np.zeros(32, np.float32)}, "mean", (), (), Calibration(1, 0),
        {"test/calibrated_loss": 0.1}, to_dict(CONFIG), "a" * 64, WordTokenizer().hash, provenance,
    )  # fmt: skip


@pytest.fixture
def searches(monkeypatch, run, task):
    """The searches that were made: how many circuits each was made without.  There are two circuits."""
    made = []

    def search(run, pruner, splits, found, store):
        made.append(len(found))
        if len(found) == 2:
            return "nothing is left"
        return circuit(run, task, len(found), pruner.config)

    def shares(subject, circuits, prune, splits):
        return [{"f": None, "f together": 1.0, "rise": 0.1, "rise together": 0.2}] * len(circuits), {}

    def pruner(subject, prune):
        return types.SimpleNamespace(config=prune, subject=subject)

    monkeypatch.setattr(exhausting, "_search", search)
    monkeypatch.setattr(exhausting, "shares", shares)
    monkeypatch.setattr(exhausting, "Pruner", pruner)
    monkeypatch.setattr(exhausting, "subject_of", lambda run, prune: None)
    monkeypatch.setattr(exhausting, "_write_page", lambda *rest: None)
    return made


def test_circuits_are_searched_until_there_are_no_more_and_only_once(run, task, searches):
    (found,) = exhaust_tasks(run, [task], PRUNE, 8)
    assert searches == [0, 1, 2] and found.exhausted
    assert found.words == "2 disjoint circuits; nothing is left"
    assert [each.nodes[0].index for each in found.circuits] == [0, 1]
    rows = exhaust_table([found])
    assert [each["circuit"] for each in rows] == ["1 of 2", "2 of 2"] and rows[0]["f"] == ""
    assert {each["ablation"] for each in rows} == {"mean"}
    (again,) = exhaust_tasks(run, [task], PRUNE, 8)
    assert searches == [0, 1, 2] and again.words == found.words
    exhaust_tasks(run, [task], dataclasses.replace(PRUNE, steps=7), 8)
    assert searches == [0, 1, 2] * 2  # other settings


def test_a_search_that_was_stopped_goes_on(run, task, searches, monkeypatch):
    (one,) = exhaust_tasks(run, [task], PRUNE, 1)
    assert one.words == "one circuit or more; no more than 1 were looked for"
    assert "one circuit or more" in alternatives(run.folder, "mine", one.circuits[0])
    killed = exhausting._search

    def kill(run, pruner, splits, found, store):
        if len(found) == 2:
            raise KeyboardInterrupt
        return killed(run, pruner, splits, found, store)

    monkeypatch.setattr(exhausting, "_search", kill)
    with pytest.raises(KeyboardInterrupt):
        exhaust_tasks(run, [task], PRUNE, 8)
    monkeypatch.setattr(exhausting, "_search", killed)
    exhaust_tasks(run, [task], PRUNE, 8)
    assert searches == [0, 1, 2]


def test_the_first_is_the_one_that_prune_cut(run, task, searches):
    circuit(run, task, 5).save(run.folder / "circuits" / "mine")
    (found,) = exhaust_tasks(run, [task], PRUNE, 8)
    assert searches == [1, 2] and found.circuits[0].nodes[0].index == 5
    assert load_circuit(run.folder / "exhaust" / "mine" / "1").nodes == found.circuits[0].nodes


def test_a_page_says_whether_its_circuit_is_the_only_one(run, task, searches, monkeypatch):
    mine = circuit(run, task, 0)
    assert alternatives(run.folder, "mine", mine) == NOT_SEARCHED
    exhaust_tasks(run, [task], PRUNE, 8)
    assert "2 disjoint circuits for this task, under mean ablation" in alternatives(run.folder, "mine", mine)
    assert alternatives(run.folder, "mine", circuit(run, task, 9)) == NOT_SEARCHED  # another circuit
    (run.folder / "exhaust" / "mine" / "exhaust.json").write_text("{")
    assert alternatives(run.folder, "mine", mine) == NOT_SEARCHED


def test_a_task_without_a_circuit_or_pairs_says_why(run, task, searches, monkeypatch):
    monkeypatch.setattr(exhausting, "_search", lambda *rest: "it knows nothing")
    (found,) = exhaust_tasks(run, [task], PRUNE, 8)
    assert exhaust_table([found]) == [{"task": "mine", "refused": "it knows nothing"}]

    def refuse(*rest):
        raise TaskError("too few pairs")

    monkeypatch.setattr(exhausting, "task_splits", refuse)
    assert exhaust_table(exhaust_tasks(run, [task], PRUNE, 8))[0]["refused"] == "too few pairs"

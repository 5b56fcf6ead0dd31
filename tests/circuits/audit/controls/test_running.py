"""Which controls are run, in what order, which are kept, and how the verdict reads them."""

import dataclasses
import json

import numpy as np
import pytest

from circuits_jax.circuits.audit.controls import kinds
from circuits_jax.circuits.audit.controls.comparison import MISSES, SMALLER, compare
from circuits_jax.circuits.audit.controls.running import MOST_THROWN_AWAY, Case, ControlRuns, Draws, draws_of
from circuits_jax.circuits.pruning.nodes import Pruner
from circuits_jax.config import AuditConfig, PruneConfig
from tests.circuits.audit.controls.test_construction import PLANTED, ZEROS
from tests.circuits.audit.test_auditor import circuit_of

ONE, FULL = draws_of("quick", AuditConfig()), draws_of("full", AuditConfig())


class Fake(ControlRuns):
    """Finds ten edges and two nodes without a search; memorises as many pairs as it can."""

    can, own_loss = 16, 0.7

    def _search(self, splits, draw, subject=None, keep=None):
        self.searched = [*getattr(self, "searched", []), (self._name, splits.train.task)]
        count = len({prompts.tobytes() for prompts in splits.train.tokens})
        met = "memorised" not in splits.train.task or count <= self.can
        if keep is not None:
            keep |= self._case.circuit.masks()
        outcome = kinds.MET if met else kinds.MISSED
        return {"edges": 10 if met else 999, "nodes": 2, "outcome": outcome, "loss": 0.1 if met else 0.5}

    def _loss_of_circuit(self, circuit, splits):
        return self.own_loss


@pytest.fixture
def runs(tmp_path):
    case = Case(
        circuit=circuit_of(PLANTED.nodes, ZEROS),
        subject=None,
        splits=PLANTED.splits,
        corpus=PLANTED.corpus,
        counts=np.bincount(PLANTED.corpus.ravel(), minlength=PLANTED.config.vocab_size),
        unfit=(0,),
    )
    return fake(case, tmp_path)


def fake(case, folder, **values):
    pruner = Pruner.__new__(Pruner)  # nothing of it is run
    pruner.config, pruner.final = PruneConfig(), False
    found = Fake(dataclasses.replace(case, subject=_Subject()), pruner, folder)
    for name, value in values.items():
        setattr(found, name, value)
    return found


class _Subject:
    model, means, final = PLANTED.model, ZEROS, False


@pytest.fixture(autouse=True)
def no_networks(monkeypatch):
    from circuits_jax.circuits.audit.controls import moved, running

    monkeypatch.setattr(running, "reference_activations", lambda *rest: ZEROS)
    monkeypatch.setattr(moved, "loss_of", lambda *rest: 0.69)
    monkeypatch.setattr(running.weights, "random_weights", lambda model, seed: model)


def count(rows):
    return {kind: len(kinds.rows_of(rows, kind)) for kind in (*kinds.SEARCHED, kinds.MOVED, kinds.SEED)}


def test_quick_controls_are_one_draw_of_each_kind(runs):
    rows = runs.run(ONE, show=False)
    assert count(rows) == {**dict.fromkeys((*kinds.SEARCHED, kinds.MOVED), 1), kinds.SEED: 0}
    tried = [row["pairs"] for row in rows if row["kind"] == kinds.MEMORISED]
    assert tried == [8, 16, 32]  # 32 cannot be memorised, and so 64 is not tried
    assert all(row.keys() >= kinds.FIELDS for row in rows)


def test_full_controls_have_enough_draws_and_begin_with_the_quick_ones(runs):
    quick = runs.run(ONE, show=False)
    runs.searched = []
    rows = runs.run(FULL, show=False)
    assert count(rows) == {
        **dict.fromkeys(kinds.SEARCHED, 3),
        kinds.RELABELLED: 5,
        kinds.MOVED: 3,
        kinds.SEED: 2,
    }
    assert all(row in rows for row in quick)
    names = [name for name, _ in runs.searched]
    assert len(set(names)) == len(names)
    # 32 pairs cannot be memorised, 16 decide, 8 are only reported.
    tried = [row["pairs"] for row in rows if row["kind"] == kinds.MEMORISED]
    assert tried == [8, 16, 32, 32, 32, 16, 16]


def test_what_was_done_is_not_done_again_and_what_was_cut_short_is(runs, tmp_path):
    rows = runs.run(ONE, show=False)
    again = fake(runs._case, tmp_path)
    assert again.run(ONE, show=False) == rows and not hasattr(again, "searched")
    (tmp_path / "inverted-0.json").write_text('{"kind": "inver')
    (tmp_path / "random-weights-0.json").write_text(json.dumps({"kind": "random weights", "draw": 0}))
    again.run(ONE, show=False)
    assert [name for name, _ in again.searched] == ["inverted-0", "random-weights-0"]


def test_labels_that_the_circuit_itself_knows_are_thrown_away_and_told(runs, tmp_path):
    losses = iter([0.1, 0.1, 0.7])
    runs._loss_of_circuit = lambda circuit, splits: next(losses)
    rows = [row for row in runs.run(ONE, show=False) if row["kind"] == kinds.RELABELLED]
    assert [row["outcome"] for row in rows] == [kinds.THROWN_AWAY, kinds.THROWN_AWAY, kinds.MET]
    assert len({tuple(row["labels"]) for row in rows}) == 3
    never = fake(runs._case, tmp_path / "never", own_loss=0.1)
    rows = [row for row in never.run(ONE, show=False) if row["kind"] == kinds.RELABELLED]
    assert [row["outcome"] for row in rows] == [kinds.THROWN_AWAY] * MOST_THROWN_AWAY


def test_another_seed_is_reported_node_by_node(runs):
    (row,) = kinds.rows_of(runs.run(Draws(1, 1, 1), show=False), kinds.SEED)
    assert row["kept"] == [True] * len(PLANTED.nodes) and row["jaccard"] == 1


def test_if_nothing_can_be_memorised_the_fewest_pairs_decide(runs):
    runs.can = 0
    rows = kinds.rows_of(runs.run(FULL, show=False), kinds.MEMORISED)
    assert [(row["pairs"], row["outcome"]) for row in rows] == [(8, kinds.MISSED)] * 3


# The comparison.


def compared(rows):
    """({name: criterion} of sizes, the whole) of a circuit of ten edges."""
    found = compare({"choice": "full", "rows": rows, "target": 0.15}, 10, AuditConfig())
    return {each.name: each for each in found.smaller}, found


def rows_with(**edges):
    names = {name.replace(" ", "_"): name for name in kinds.SEARCHED}
    draws = {names[name]: each for name, each in edges.items()}
    return [
        {"kind": kind, "draw": n, "edges": each, "outcome": kinds.MET, "pairs": 8}
        for kind in kinds.SEARCHED
        for n, each in enumerate(draws.get(kind, (300, 300, 300)))
    ]


@pytest.mark.parametrize(
    ("draws", "passed", "beaten"),
    [
        ((30, 30, 30), True, False),
        ((29, 29, 29), False, True),
        ((11, 30, 999), True, False),
        ((10, 30, 999), False, True),  # fewer than every draw
        ((30, 30), None, False),
        ((29, 30), False, False),  # a third draw might help it
        ((10,), False, True),
        ((), None, False),
    ],
)
def test_ten_edges_against_draws(draws, passed, beaten):
    criteria, found = compared(rows_with(inverted=draws))
    assert (criteria[SMALLER[kinds.INVERTED]].passed, found.beaten) == (passed, beaten)
    others = [criteria[name] for kind, name in SMALLER.items() if kind != kinds.INVERTED]
    assert all(each.passed for each in others)
    assert False not in {each.clear for each in found.smaller}  # counts are never close


def test_memorisation_is_compared_with_at_the_largest_number_that_was_memorised():
    rows = [
        {"kind": kinds.MEMORISED, "draw": n, "pairs": pairs, "edges": edges, "outcome": outcome}
        for pairs, edges, outcome in ((64, 999, kinds.MISSED), (16, 40, kinds.MET), (8, 3, kinds.MET))
        for n in range(3)
    ]
    found = compared(rows)[0][SMALLER[kinds.MEMORISED]]
    assert found.passed and found.bound == pytest.approx(40 / 3)


@pytest.mark.parametrize(
    ("rows", "passed"),
    [
        ([("missed", 0.7)], True),
        ([("missed", 0.7), ("met", 0.1)], False),
        ([("missed", None)], True),
        ([], None),
    ],
)
def test_no_circuit_that_is_moved_here_may_meet_the_target(rows, passed):
    made = [
        {"kind": kinds.MOVED, "draw": n, "edges": 3, "outcome": outcome, "loss": loss}
        for n, (outcome, loss) in enumerate(rows)
    ]
    found = compare({"choice": "full", "rows": made, "target": 0.15}, 10, AuditConfig()).another_misses
    assert (found.name, found.passed) == (MISSES, passed)


def test_without_controls_nothing_is_compared():
    found = compare(None, 10, AuditConfig())
    assert {each.passed for each in (found.another_misses, *found.smaller)} == {None} and not found.beaten


def test_more_draws_are_a_full_audit():
    assert Draws(1, 1, 0) == ONE  # another seed is no control
    assert draws_of("full", AuditConfig(control_draws=4, seeds=0)) == Draws(5, 4, 0)

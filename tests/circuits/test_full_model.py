"""What a circuit's full model is flagged as: once, by the pairs that pruning chose by."""

import dataclasses
import math

import pytest

from circuits_jax.circuits.full_model import known_of, missed_by
from circuits_jax.runs.pruning import Outcome, pruning_table
from tests.circuits.readings.test_rules import CIRCUIT

TODAY, BEFORE = {"select_pairs": 8, "test_pairs": 8}, {"heldout_pairs": 8}
FIGURES = {
    **{f"full/test/{name}": 0.5 for name in ("loss", "accuracy")},
    **{f"test/{name}": 0.5 for name in ("loss", "accuracy", "calibrated_loss", "calibrated_accuracy")},
    "nodes": 2.0,
    "edges": 1.0,
}


def circuit(select, test, mediocre=None, counts=TODAY):
    """With such losses of its full model, None for one that is not there."""
    losses = {"full/select/calibrated_loss": select, "full/test/calibrated_loss": test}
    there = {name: loss for name, loss in losses.items() if loss is not None}
    made = {"prune": counts, "met_target": True}
    made |= {} if mediocre is None else {"mediocre_model": mediocre}
    return dataclasses.replace(CIRCUIT, metrics=FIGURES | there, provenance=made)


@pytest.mark.parametrize(
    ("found", "flag", "loss"),
    [
        (circuit(0.15, 0.3, False), "good", 0.15),
        (circuit(0.2, 0.1, True), "mediocre", 0.2),
        (circuit(0.2, 0.1, False), "good", 0.2),  # a target of 0.25, say
        (circuit(0.593, 0.1, True), "mediocre", 0.593),
        (circuit(0.594, 0.1, True), "at chance", 0.594),
        (circuit(math.inf, 0.1, True), "at chance", math.inf),
        (circuit(None, 0.3, True, BEFORE), "mediocre", 0.3),  # of two splits, it was chosen by these
        (circuit(None, 0.1, False), None, None),
        (circuit(0.1, 0.1), None, None),
        (CIRCUIT, None, None),
    ],
)
def test_the_flag_is_by_the_pairs_that_pruning_chose_by(found, flag, loss):
    assert known_of(found) == {"flag": flag, "select_loss": loss}


def test_the_table_of_pruning_flags_the_model_as_the_audit_does():
    found = [circuit(0.1, 0.3, False), circuit(0.3, 0.1, True), circuit(0.7, 0.1, True)]
    rows = pruning_table([Outcome(each.task, each, None, None) for each in found])
    assert [row.get("model", "good") for row in rows] == [known_of(each)["flag"] for each in found]


def test_a_loss_that_is_no_number_is_at_chance():
    assert known_of(circuit(math.nan, 0.1, False))["flag"] == "at chance"


@pytest.mark.parametrize(
    ("counts", "met", "loss"),
    [(TODAY, False, 0.4), (TODAY, True, None), (TODAY, None, None), (BEFORE, False, 0.5)],
)
def test_a_circuit_that_misses_its_target_says_by_what_loss_on_the_pairs_it_was_chosen_by(counts, met, loss):
    found = circuit(0.1, 0.1, False, counts)
    made = {name: value for name, value in found.provenance.items() if name != "met_target"}
    made |= {} if met is None else {"met_target": met}
    metrics = found.metrics | {"select/calibrated_loss": 0.4}
    assert missed_by(dataclasses.replace(found, provenance=made, metrics=metrics)) == loss

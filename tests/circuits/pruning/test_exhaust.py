"""Networks in which a circuit is wired once or twice: as many are found, and each is one of them."""

import dataclasses
import functools
import io

import jax
import numpy as np
import pytest
from tqdm import tqdm

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.means import Subject, reference_activations
from circuits_jax.circuits.circuit import Calibration, Circuit
from circuits_jax.circuits.planted import Wiring, plant
from circuits_jax.circuits.pruning.exhaust import next_circuit, nodes_taken, shares
from circuits_jax.circuits.pruning.nodes import Pruner
from circuits_jax.circuits.pruning.sweep import Progress
from circuits_jax.config import PruneConfig, to_dict

pytestmark = pytest.mark.computes

PAIRS = 64
PRUNE = PruneConfig(steps=100, k_coef=5e-4, importance_nodes=0, importance_pairs=16)


@functools.cache
def case(name, copies):
    planted = plant(name, 0, PAIRS, PAIRS, PAIRS, Wiring(copies=copies))
    means = reference_activations(planted.model, planted.corpus, "mean")
    return planted, Subject(planted.model, means)


def wired(planted, subject, nodes):
    """One copy as a circuit, with all its weights."""
    every = graph.edges_of(planted.config, planted.params, nodes)
    return Circuit(
        planted.name, nodes, every, (False,) * len(nodes), subject.means, "mean", (), (),
        Calibration(1, 0), {}, to_dict(planted.config), "", "", {},
    )  # fmt: skip


def search(planted, subject, store, most=4):
    pruner, found = Pruner(subject, PRUNE, jax.devices()[:1]), []
    while len(found) < most:
        circuit = next_circuit(
            pruner,
            planted.splits,
            found,
            store / str(len(found)),
            Progress(tqdm(total=9e9, file=io.StringIO())),
        )
        if isinstance(circuit, str):
            return found, circuit
        found.append(circuit)
    return found, ""


@pytest.mark.slow
@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("name", ["quotes", "brackets", "binding"])
def test_a_circuit_wired_once_is_found_once_and_one_wired_twice_twice(name, copies, tmp_path):
    planted, subject = case(name, copies)
    found, why = search(planted, subject, tmp_path)
    assert len(found) == copies, why
    assert {frozenset(circuit.nodes) for circuit in found} == {frozenset(nodes) for nodes in planted.copies}
    assert "without the nodes" in why or "best circuit of the other" in why
    rows, _ = shares(subject, found, PRUNE, planted.splits)
    assert rows[-1]["rise together"] > 0.5


def test_each_copy_is_one_circuit_of_its_own():
    planted, _ = case("quotes", 2)
    once = plant("quotes", 0, PAIRS, PAIRS, PAIRS)
    first, second = planted.copies
    assert len(first) == len(second) == len(once.nodes) and not set(first) & set(second)
    assert first == once.nodes == once.copies[0]  # the layout of the first does not depend on the second
    assert set(planted.nodes) == {*first, *second}


@pytest.mark.slow
def test_shares_of_two_copies_say_that_either_will_do_and_both_are_needed():
    planted, subject = case("quotes", 2)
    circuits = [wired(planted, subject, nodes) for nodes in planted.copies]
    rows, model = shares(subject, circuits, PRUNE, planted.splits)
    assert model["loss of the model"] < 0.1
    for row in rows:
        assert 0.2 < row["f"] < 0.9  # half of the logits, more or less: they add up
    # More than 1 where what is left out spoke against the answer.
    assert 0.8 < rows[1]["f together"] < 1.5 and rows[0]["f together"] == rows[0]["f"]
    assert rows[0]["rise"] < 0.1 and rows[1]["rise"] < 0.1 and rows[0]["rise together"] == rows[0]["rise"]
    assert rows[1]["rise together"] > 0.5


def test_where_the_model_is_as_good_as_nothing_there_is_no_share():
    planted, subject = case("quotes", 2)
    (first, _), params = planted.copies, jax.tree.map(np.array, planted.params)
    params["lm_head"]["kernel"][:] = 0
    mute = dataclasses.replace(subject, model=dataclasses.replace(planted.model, params=params))
    rows, _ = shares(mute, [wired(planted, subject, first)], PRUNE, planted.splits)
    assert rows[0]["f"] is None and rows[0]["f together"] is None
    assert abs(rows[0]["rise"]) < 1e-3


@pytest.mark.slow
def test_a_banned_node_is_never_kept_and_the_rest_is_called_full():
    planted, subject = case("quotes", 1)
    banned = nodes_taken(subject, [wired(planted, subject, planted.nodes)])
    rest = dataclasses.replace(subject, banned=banned)
    pruner = Pruner(rest, dataclasses.replace(PRUNE, steps=2), jax.devices()[:1])
    job = pruner.job(planted.splits)
    assert job.full["full/select/calibrated_loss"] > 0.6  # without the circuit nothing is known
    (fitted,) = pruner.fit([job], lambda *_: None)
    (kept,) = pruner.discretise([job], [fitted], lambda *_: None)
    for site, mask in kept.masks.items():
        assert not (mask * banned[site]).any()
        assert (np.asarray(fitted.taus[site])[banned[site] > 0] < 0).all()
    everything = rest.everything
    assert sum(mask.sum() for mask in kept.values()) == sum(mask.sum() for mask in everything.values())

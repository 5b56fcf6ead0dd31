"""The tests on a planted network: the circuit is told from random ones, and random ones are not."""

import dataclasses
import functools
import types

import jax
import numpy as np
import pytest
from scipy import stats

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.means import Subject, mean_activations
from circuits_jax.circuits.ablation.pairs import pair_batch
from circuits_jax.circuits.audit.hypotheses.circuit_tests import (
    ADDED,
    DROPPED,
    NULLS,
    CircuitTests,
    Judged,
    all_tests,
)
from circuits_jax.circuits.audit.hypotheses.random_paths import PathDraws, answering_channels, live_edges
from circuits_jax.circuits.audit.hypotheses.significance import LEVEL, draws_needed
from circuits_jax.circuits.audit.interventions import Interventions
from circuits_jax.circuits.baselines import ModelEdges
from circuits_jax.circuits.circuit import Calibration, Circuit
from circuits_jax.circuits.planted import plant
from circuits_jax.config import AuditConfig, to_dict

pytestmark = pytest.mark.computes

PLANTED = plant("quotes", 5, 32, 32, 32)
EDGES = ModelEdges.of(PLANTED.config, PLANTED.params)
ANSWERS = np.unique(PLANTED.test.answers)
CONFIG = AuditConfig(pairs=32, test_draws=99, edge_pairs=32, alternatives=4)


@functools.cache
def subject():
    return Subject(PLANTED.model, mean_activations(PLANTED.model, PLANTED.corpus))


@functools.cache
def interventions():
    return Interventions(PLANTED.model.network)


def circuit_of(pairs, nodes=None):
    """A circuit of edges given by their ends."""
    nodes = tuple(sorted(nodes or {node for pair in pairs for node in pair}))
    every = graph.edges_of(PLANTED.config, PLANTED.params, nodes)
    edges = tuple(e for e in every if (nodes[e.source], nodes[e.target]) in set(pairs))
    means = {site: np.asarray(mean) for site, mean in subject().means.items()}
    return Circuit(
        "quotes", nodes, edges, (False,) * len(nodes), means, "mean", (), (), Calibration(1, 0), {},
        to_dict(PLANTED.config), "", "", {},
    )  # fmt: skip


def examined(circuit, config=CONFIG):
    pairs = pair_batch(PLANTED.test, PLANTED.config.n_ctx)
    # Of fewer than six templates, a test in which all agree has no p-value below LEVEL.
    judged = Judged(pairs, np.arange(pairs.size) % 6, (1.0, 0.0), (1.0, 0.0))
    return CircuitTests(circuit, subject(), interventions(), judged, config)


@functools.cache
def draws():
    live, circuit = live_edges(EDGES, PLANTED.params, ANSWERS), EDGES.kept(PLANTED.edges)
    return PathDraws(EDGES, live, circuit, answering_channels(EDGES, PLANTED.params, ANSWERS)), live, circuit


def test_random_circuits_are_as_large_and_joined():
    drawing, live, circuit = draws()
    rng, joined = np.random.RandomState(0), []
    for _ in range(20):
        drawn = drawing.draw(rng)
        for ends in (EDGES.sources, EDGES.targets):
            sites = [sorted(EDGES.nodes[i].site for i in ends[kept]) for kept in (drawn, circuit)]
            assert sites[0] == sites[1]
        assert live[drawn].mean() > 0.9
        params = jax.tree.map(np.copy, PLANTED.params)
        masks = EDGES.masks(EDGES.joined(drawn))
        leads = EDGES.flat(graph.useful(PLANTED.config, params, masks, ANSWERS)) > 0
        joined.append(leads[EDGES.joined(drawn)].mean())
    assert np.mean(joined) > 0.7
    first, second = (drawing.draw(np.random.RandomState(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_live_edges_are_those_on_a_path():
    _, live, circuit = draws()
    assert live[circuit].all() and not live.all()
    leads = graph.useful(PLANTED.config, PLANTED.params, EDGES.masks(np.ones(len(EDGES.nodes))), ANSWERS)
    dead = ~live & (EDGES.flat(leads)[EDGES.targets] > 0)
    reached = graph.reached(PLANTED.config, PLANTED.params, EDGES.masks(np.ones(len(EDGES.nodes))))
    assert (EDGES.flat(reached)[EDGES.sources][dead] == 0).all()


def keep_none(name, make):
    """Makes every part anew."""
    return make()


@pytest.mark.parametrize(("better", "p"), [(0.001, 1.0), (0.02, 1 / 10)])
def test_a_circuit_has_to_be_better_than_random_by_more_than_calibration_leaves(better, p):
    drawing, _, circuit = draws()
    tests = object.__new__(CircuitTests)
    tests.config, tests._nodes, tests._draws = CONFIG, EDGES.joined(circuit), drawing
    tests._judged = Judged(None, None, (1.0, 0.0), (1.0, 0.0))
    tests._network = types.SimpleNamespace(edges=EDGES, differences=lambda sets, pairs: np.zeros(len(sets)))
    tests._alone, tests._without = np.float64(-better), lambda nodes: np.array([better, *[0.0] * 9])
    tests._refitted = lambda losses: 0.69 + losses
    assert [row["p"] for row in tests.against_random(9)] == pytest.approx([p, p])


@pytest.fixture(scope="module")
def report():
    edges = len(PLANTED.edges)
    return all_tests(examined(circuit_of(PLANTED.edges), CONFIG), True, keep_none), edges


@pytest.mark.slow
def test_the_planted_circuit_beats_random_ones(report):
    enough, needed = report[0]["circuit"]
    assert enough["p"] == 1 / 100 and enough["corrected"] < LEVEL
    assert needed["corrected"] < LEVEL  # a random circuit may hold the one node that all depends on
    assert (enough["test"], needed["test"]) == ("sufficiency", "necessity")
    assert enough["loss"] < 0.15 < 0.5 < enough["random"] and needed["random"] < 0.15 < 0.5 < needed["loss"]


@pytest.mark.slow
def test_every_planted_edge_beats_random_ones(report):
    found, count = report[0]["edges"], report[1]
    assert found["why_not"] is None and found["draws"] >= draws_needed(count)
    assert found["significant"] == len(found["rows"]) == count
    assert min(row["effect"] for row in found["rows"]) > found["random"][-1]
    assert {(row["source"], row["target"]) for row in found["rows"]} == {
        (str(a), str(b)) for a, b in PLANTED.edges
    }


@pytest.mark.slow
def test_tests_that_can_speak_against_a_circuit_have_their_power_beside_them(report):
    for name in ("equivalence", "independence"):
        found = report[0][name]
        assert 0 < found["p"] <= 1 and "corrected" not in found
        assert found["power"][DROPPED]["circuits"] == 4 and 0 <= found["power"][DROPPED]["rejected"] <= 1
        # Nothing that leads to the answer touches what was planted.
        assert found["power"][ADDED] == {"circuits": 0, "rejected": None}
    assert report[0]["independence"]["p"] > LEVEL  # nothing of the answer is left
    assert report[0]["equivalence"]["power"][DROPPED]["rejected"] > 0.5
    found = report[0]["equivalence"]
    assert found["better"] + found["worse"] <= 1


@pytest.mark.slow
def test_every_null_is_one_sentence(report):
    rows = [*report[0]["circuit"], *(report[0][name] for name in ("edges", "equivalence", "independence"))]
    assert [row["null"] for row in rows] == list(NULLS.values())
    assert all(null.endswith(".") and null.count(".") == 1 for null in NULLS.values())


@pytest.mark.slow
def test_the_model_itself_is_equivalent_and_a_part_of_the_circuit_is_not_independent():
    pairs = [EDGES.ends(i) for i in range(EDGES.count)]
    whole = examined(circuit_of(pairs, EDGES.nodes))
    assert whole.equivalence(False)["p"] == 1
    nothing = examined(circuit_of([], PLANTED.nodes[:1]))  # all of the model is left
    assert nothing.independence(False)["p"] < LEVEL


@pytest.mark.slow
def test_what_cannot_be_tested_is_told():
    few = dataclasses.replace(CONFIG, edge_draws=9)
    found = examined(circuit_of(PLANTED.edges), few).of_edges()
    assert "at most 9" in found["why_not"] and "rows" not in found
    nothing = examined(circuit_of([], PLANTED.nodes[:2])).of_edges()
    assert nothing["why_not"] == "the circuit has no edges"
    pairs = [EDGES.ends(i) for i in range(EDGES.count)]
    found = examined(circuit_of(pairs, EDGES.nodes), dataclasses.replace(CONFIG, edge_draws=10**9)).of_edges()
    assert "the model has 0" in found["why_not"]
    quick = all_tests(examined(circuit_of(PLANTED.edges)), False, keep_none)
    assert quick["edges"]["why_not"] == "full controls were not run" and quick["equivalence"]["power"] is None


@pytest.mark.slow
def test_null_circuits_are_seldom_told_from_random_ones():
    """Circuits that are random themselves: each is tested against draws of its own."""
    drawing, _, _ = draws()
    rng, p_values = np.random.RandomState(11), {"sufficiency": [], "necessity": []}
    for number in range(60):
        null = [EDGES.ends(i) for i in np.flatnonzero(drawing.draw(rng))]
        found = examined(circuit_of(null), dataclasses.replace(CONFIG, seed=number)).against_random(40)
        for row in found:
            p_values[row["test"]].append(row["p"])
    for name, found in p_values.items():
        rejected = (np.array(found) < LEVEL).sum()
        assert rejected <= stats.binom.ppf(0.999, len(found), LEVEL), (name, sorted(found)[:9])
        assert np.mean(found) > 0.35

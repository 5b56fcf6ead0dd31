"""Edges of compiled networks whose removed parts are at means of each position, against numpy."""

import functools

import numpy as np
import pytest

from circuits_jax.circuits.baselines import EdgeNetwork
from circuits_jax.circuits.rasp import embed, load
from circuits_jax.circuits.rasp.truth import every_part, subject_of
from tests.circuits.rasp.by_hand import by_hand
from tests.one_device import one_device

pytestmark = pytest.mark.computes

PAIRS = 32  # a whole block: slopes count each pair once
NAMES = ["previous_token", pytest.param("count", marks=pytest.mark.slow)]


@functools.cache
def network(name):
    net = embed(load(name), seed=3)
    with one_device():
        return net, EdgeNetwork(subject_of(net))


def place(edges, edge):
    source, target = edges.ends(edge)
    return source.site, source.index, target.site, target.index


def seen(net, pairs):
    """Which input each prompt of the pairs is, int [N, 2]."""
    number = {tuple(row): i for i, row in enumerate(net.inputs)}
    return np.array([[number[tuple(prompt)] for prompt in pair] for pair in pairs.tokens])


def test_every_edge_of_the_truth_has_a_score():
    net, sets = network("previous_token")
    nodes, edges = every_part(net)
    ends = {(nodes[edge.source], nodes[edge.target]) for edge in edges}
    assert {sets.edges.ends(i) for i in range(sets.edges.count)} == ends and len(ends) == sets.edges.count


@pytest.mark.parametrize("name", NAMES)
def test_a_removed_edge_carries_its_mean_of_each_position(name):
    net, sets = network(name)
    pairs, run, count = net.pairs(PAIRS, seed=0), by_hand(net), sets.edges.count
    found = sets.differences(~np.eye(count, dtype=bool), pairs, np.ones(len(sets.edges.nodes), bool))
    expected = np.stack([run(place(sets.edges, edge))[seen(net, pairs)] for edge in range(count)])
    np.testing.assert_allclose(found, expected, atol=1e-2)
    whole = run()[seen(net, pairs)]
    assert 3 < (np.abs(expected - whole).max(axis=(1, 2)) > 1).sum() < count


@pytest.mark.parametrize("name", NAMES)
def test_slopes_are_what_small_changes_of_an_edge_do(name):
    net, sets = network(name)
    pairs, run, step = net.pairs(PAIRS, seed=0), by_hand(net), 1e-5

    def margin(edge, share):
        return (run(place(sets.edges, edge), share)[seen(net, pairs)] * [1, -1]).mean()

    slopes, whole = sets.slopes(1.0, pairs, "margin"), (run()[seen(net, pairs)] * [1, -1]).mean()
    compared = []
    for edge, slope in enumerate(slopes):
        less, more = (whole - margin(edge, step)) / step, (margin(edge, -step) - whole) / step
        if abs(less - more) < 1e-3:  # not where a neuron is just about to fire
            assert slope == pytest.approx((less + more) / 2, abs=1e-2)
            compared.append(slope)
    assert len(compared) > len(slopes) / 2 and np.count_nonzero(np.abs(compared) > 0.1) > 3

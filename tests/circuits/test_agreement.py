"""Circuits of two networks that do the same are found in each other; random nodes are not."""

import numpy as np
import pytest

from circuits_jax.circuits.agreement import ALIKE, DRAWS, agreement, correlations
from circuits_jax.circuits.circuit import Node
from circuits_jax.circuits.planted import plant
from circuits_jax.model.sites import node_sites

PAIRS = 24


def test_correlations_are_numpys_and_of_what_never_changes_0():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(50, 3)), rng.normal(size=(50, 4))
    other[:, 0] = -2 * one[:, 1] + 5
    other[:, 3] = 1e4 + 1e-7
    found = correlations(one.astype(np.float32), other.astype(np.float32))
    told = np.abs(np.corrcoef(one.T, other[:, :3].T)[:3, 3:])
    np.testing.assert_allclose(found[:, :3], told, atol=1e-5)
    assert found[1, 0] == pytest.approx(1, abs=1e-5) and (found[:, 3] == 0).all()


@pytest.fixture(scope="module")
def networks():
    """Two networks with one circuit each, laid out differently, on the prompts of the first."""
    planted = [plant("quotes", seed, 8, 8, PAIRS) for seed in (0, 1)]
    test = planted[0].test
    tokens, last = test.tokens.reshape(2 * PAIRS, -1), np.repeat(test.last, 2)
    inside = np.arange(tokens.shape[1]) <= last[:, None]
    activations = []
    for each in planted:
        sites = tuple(node_sites(each.config))
        _, records = each.model.apply(tokens, record=sites)
        activations.append({site: np.asarray(records[site])[inside] for site in sites})
    return planted, activations


def test_the_same_circuit_in_two_layouts_is_found(networks):
    (one, other), (own, others) = networks
    assert one.nodes != other.nodes
    found = agreement(one.nodes, own, other.nodes, others, 0)
    assert found.alike == found.anywhere == len(one.nodes) and found.mean > 0.95
    assert found.p == 1 / (1 + DRAWS) and found.random.max() < found.mean
    bias = [np.asarray(each.params["h_0"]["mlp"]["c_fc"]["bias"]) for each in (one, other)]
    detector = min((n for n in one.nodes if n.site == "0.mlp.post_act"), key=lambda n: bias[0][n.index])
    (row,) = [each for each in found.nodes if each.node == detector]
    assert row.like is not None and bias[1][row.like.index] == bias[0][detector.index]


def test_other_nodes_in_its_place_are_told_from_it(networks):
    (one, other), (own, others) = networks
    rng = np.random.default_rng(5)
    sites = [node.site for node in other.nodes]
    left = {site: [i for i in rng.permutation(others[site].shape[1]) if Node(site, int(i)) not in other.nodes]
            for site in dict.fromkeys(sites)}  # fmt: skip
    others_nodes = [Node(site, int(left[site].pop())) for site in sites]
    found = agreement(one.nodes, own, others_nodes, others, 0)
    assert found.p > 0.05 and found.alike < len(one.nodes) and found.anywhere == len(one.nodes)


def test_a_kind_of_site_that_the_other_circuit_has_not_counts_as_not_found(networks):
    (one, other), (own, others) = networks
    few = [node for node in other.nodes if node.site.endswith("mlp.post_act")]
    found = agreement(one.nodes, own, few, others, 0)
    kinds = {node.site.partition(".")[2] for node in few}
    for each in found.nodes:
        assert (each.like is None) == (each.node.site.partition(".")[2] not in kinds)
        assert each.correlation == 0 if each.like is None else each.correlation > ALIKE

"""Sets of edges of one model, against circuits of before and against a forward pass with taps of our own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.edge_removal import remove_edges
from circuits_jax.circuits.ablation.means import Subject, reference_activations
from circuits_jax.circuits.ablation.pairs import pair_difference
from circuits_jax.circuits.baselines import REFERENCES, EdgeNetwork, ModelEdges
from circuits_jax.circuits.baselines import edge_network as module
from circuits_jax.circuits.circuit import Calibration, Circuit, Node
from circuits_jax.circuits.masks import full_masks
from circuits_jax.model.taps import only
from circuits_jax.model.wiring import wires_into
from circuits_jax.storage.errors import ConfigError
from tests.circuits.baselines.planted_edges import batch, network, planted, subject
from tests.one_device import one_device
from tests.quick import quick_cases

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def difference(model, pairs, tap=None):
    return np.asarray(pair_difference(model.network, model.device_params, pairs, tap))


def test_a_models_edges_are_its_nonzero_weights():
    found = planted()
    edges = ModelEdges.of(found.config, found.params)
    nodes = graph.nodes_of(found.config, full_masks(found.config))
    every = {(nodes[e.source], nodes[e.target]) for e in graph.edges_of(found.config, found.params, nodes)}
    assert edges.nodes == nodes and edges.count == len(every)
    assert {edges.ends(i) for i in range(edges.count)} == every
    kept = edges.kept(found.edges)
    assert {edges.ends(i) for i in np.flatnonzero(kept)} == set(found.edges)
    assert {edges.nodes[i] for i in np.flatnonzero(edges.joined(kept))} == set(found.nodes)
    masks = edges.masks(edges.joined(kept))
    assert set(graph.nodes_of(found.config, masks)) == set(found.nodes)
    np.testing.assert_array_equal(edges.flat(masks), edges.joined(kept))


@pytest.mark.parametrize("reference", quick_cases({name: name for name in REFERENCES}, ["mean"]))
def test_all_edges_are_the_model_and_none_leave_no_node(reference):
    pairs, model = batch(), planted().model
    net = network(reference)
    whole, nothing = net.differences(np.array([[True], [False]]).repeat(net.edges.count, axis=1), pairs)
    np.testing.assert_allclose(whole, difference(model, pairs), **CLOSE)
    held = {site: jnp.asarray(subject().means[site]) for site in full_masks(model.config)}
    if reference == "counterfactual":
        others = pairs.tokens[:, ::-1].reshape(-1, pairs.tokens.shape[-1])
        held = model.apply(others, record=tuple(held))[1]

    def ablated(site, x):
        return jnp.broadcast_to(held[site], x.shape) if site in held else x

    np.testing.assert_allclose(nothing, difference(model, pairs, ablated), **CLOSE)
    assert abs(net.margins(np.ones((1, net.edges.count), bool), pairs)[0]) > 1


def test_a_circuit_by_its_edges_is_the_circuit_as_it_is_saved():
    found, pairs = planted(), batch()
    nodes = found.nodes
    left_out = found.edges[3]
    edges = [
        e for e in graph.edges_of(found.config, found.params, nodes)
        if (nodes[e.source], nodes[e.target]) != left_out
    ]  # fmt: skip
    circuit = Circuit(
        "quotes", nodes, tuple(edges), (False,) * len(nodes), subject().means, "mean", (), (),
        Calibration(1, 0), {}, {}, "", "", {},
    )  # fmt: skip
    expected = difference(remove_edges(circuit, found.model), pairs, only(circuit))
    net = network("mean")
    kept = net.edges.kept((nodes[e.source], nodes[e.target]) for e in edges)
    kept_nodes = net.edges.flat(circuit.masks()) > 0
    assert kept_nodes.sum() == net.edges.joined(kept).sum() + 1  # the edge left out was a node's only one
    np.testing.assert_allclose(net.differences(kept[None], pairs, kept_nodes)[0], expected, **CLOSE)


@pytest.fixture(scope="module")
def smooth():
    """The same network without AbsTopK, so that a tap at an edge's target sees sums and no choice."""
    config = dataclasses.replace(planted().config, activation_fraction=None)
    model = dataclasses.replace(planted().model, config=config)
    return Subject(model, reference_activations(model, planted().corpus[:1], "mean"))


@pytest.mark.slow
@pytest.mark.parametrize("site", ["0.attn.k", "1.attn.v", "1.attn.resid_delta", "0.mlp.resid_delta"])
@one_device()
def test_an_edge_carries_what_it_carries_on_the_other_prompt(smooth, site):
    pairs, model = batch(), smooth.model
    net, wire = (
        EdgeNetwork(smooth, "counterfactual"),
        wires_into(model.config.n_layer)[site],
    )
    weights = np.asarray(wire.weights(model.params))
    source, target = np.argwhere(weights)[len(np.argwhere(weights)) // 2]
    edges = net.edges
    kept = ~edges.kept([(Node(wire.source, int(source)), Node(site, int(target)))])
    (at,) = np.flatnonzero(~kept)
    there = edges.joined(kept)
    assert there[edges.sources[at]] and there[edges.targets[at]]  # by other edges
    masks = edges.masks(there)
    others = pairs.tokens[:, ::-1].reshape(-1, pairs.tokens.shape[-1])
    _, given = model.apply(others, record=(*masks, wire.carried))
    seen = {}

    def by_hand(place, x):
        if place == site:
            gained = weights[source, target] * (given[wire.carried] - seen[wire.carried])[..., source]
            x = x.at[..., target].add(gained)
        if place in masks:  # nodes without any edge are removed
            x = jnp.where(masks[place] > 0, x, given[place])
        seen[place] = x
        return x

    found = net.differences(kept[None], pairs)[0]
    np.testing.assert_allclose(found, difference(model, pairs, by_hand), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@one_device()
def test_slopes_along_the_line_add_up_to_what_lies_between(smooth):
    """Under counterfactual ablation all edges removed is every node ablated."""
    pairs = batch()
    net = EdgeNetwork(smooth, "counterfactual")
    shares = (np.arange(24) + 0.5) / 24
    total = np.mean([net.slopes(float(share), pairs, "margin").sum() for share in shares])
    whole, nothing = net.margins(np.array([[True], [False]]).repeat(net.edges.count, axis=1), pairs)
    assert total == pytest.approx(whole - nothing, rel=0.05)
    assert whole - nothing > 1


def test_what_cannot_be_is_refused_in_a_line(monkeypatch):
    with pytest.raises(ConfigError, match="the reference is 'zero'; choose one of mean, counterfactual"):
        EdgeNetwork(subject(), "zero")
    with pytest.raises(ConfigError, match="the slope is 'kl'"):
        network("mean").slopes(1.0, batch(), "kl")
    monkeypatch.setattr(module, "MOST_EDGES", 9)
    with pytest.raises(ConfigError, match="from 1 to 9"):
        EdgeNetwork(subject())


@one_device()
def test_all_subjects_of_a_configuration_share_their_programs():
    net = network("mean")
    zeros = Subject(planted().model, jax.tree.map(jnp.zeros_like, dict(subject().means)))
    other = EdgeNetwork(zeros)
    assert other._prober is net._prober

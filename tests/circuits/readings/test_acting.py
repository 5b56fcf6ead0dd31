"""An edge that acts at some positions only, against a numpy network with explicit weights at each of them."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.edge_removal import remove_edges, with_biases
from circuits_jax.circuits.ablation.pairs import PairBatch, pair_difference
from circuits_jax.circuits.audit.intervals import pair_losses
from circuits_jax.circuits.circuit import Calibration
from circuits_jax.circuits.masks import full_masks
from circuits_jax.circuits.readings.acting import ActingEdges
from circuits_jax.model.taps import only
from circuits_jax.model.wiring import wires, wires_into
from tests.circuits.ablation.test_edge_removal import VARIANTS, all_edges, random_model
from tests.circuits.readings.circuits import circuit_of
from tests.model.reference import released_config, released_state
from tests.one_device import one_device
from tests.quick import quick_cases
from tests.released import oracle

variants = pytest.mark.parametrize("config", quick_cases(VARIANTS, ("plain",)))
RNG = np.random.default_rng(1)
PAIRS = PairBatch(
    RNG.integers(0, 10, (3, 2, 8)).astype(np.int32), np.array([7, 5, 6]), RNG.integers(0, 10, (3, 2))
)
WHERE = RNG.random((3, 2, 8)) < 0.5
CLOSE = 2e-5
CALIBRATION = Calibration(0.7, 0.1)


@functools.cache
@one_device()
def whole(config):
    """(model, the circuit of all its nodes and edges, how its edges run)."""
    model, means = random_model(config)
    nodes, _ = all_edges(model)
    circuit = circuit_of(model, means, nodes, calibration=CALIBRATION)
    return model, circuit, ActingEdges(circuit, model)


def by_hand(model, circuit, edge, where, monkeypatch):
    """The loss by numpy: where the edge is silent its target is computed by other weights."""
    config, (source, target, weight) = model.config, circuit.edges[edge]
    source, target = circuit.nodes[source], circuit.nodes[target]
    wire, width = wires_into(config.n_layer)[target.site], len(circuit.means[target.site])
    layer, half, name = wire.linear.split("/")
    row = wire.part * width + target.index
    mean = circuit.means[wire.carried][source.index]
    plain = oracle.linear

    def linear(w, called, x):
        out = plain(w, called, x)
        if called != f"transformer.h.{layer.removeprefix('h_')}.{half}.{name}":
            return out
        without = w[called + ".weight"].copy()
        assert without[row, source.index] == weight
        without[row, source.index] = 0
        other = plain({**w, called + ".weight": without}, called, x)
        other[..., row] += weight * mean
        return np.where(where.reshape(-1, where.shape[-1])[..., None], out, other)

    monkeypatch.setattr(oracle, "linear", linear)
    tokens = PAIRS.tokens.reshape(-1, PAIRS.tokens.shape[-1])
    logits, _ = oracle.forward(released_config(config), released_state(config, model.params), tokens)
    logits = logits.reshape(*PAIRS.tokens.shape, -1)[np.arange(3), :, PAIRS.last]
    difference = np.take_along_axis(logits, PAIRS.answers[:, None, :], -1)
    fitted = circuit.calibration
    return pair_losses(difference[..., 0] - difference[..., 1], fitted.scale, fitted.shift).mean()


@variants
def test_it_is_what_explicit_weights_at_each_position_give(config, monkeypatch):
    model, circuit, run = whole(config)
    sites = {(wire.source, wire.target): [] for wire in wires(config.n_layer)}
    for i, (source, target, _) in enumerate(circuit.edges):
        sites[circuit.nodes[source].site, circuit.nodes[target].site].append(i)
    changes = []
    for site, there in sites.items():
        for edge in there[:: max(1, len(there) // 3)][:3]:
            with monkeypatch.context() as patch:
                expected = by_hand(model, circuit, edge, WHERE, patch)
            found, everywhere = run.losses(edge, [WHERE, np.ones_like(WHERE)], PAIRS)
            assert found == pytest.approx(expected, abs=CLOSE), (site, edge)
            changes.append(abs(found - everywhere))
    assert np.count_nonzero(np.array(changes) > 10 * CLOSE) > len(changes) / 2  # else nothing was tested


def some_nodes(model):
    masks = full_masks(model.config)
    for mask in masks.values():
        mask[np.arange(len(mask)) % 3 == 1] = 0
    return graph.nodes_of(model.config, masks)


@pytest.mark.slow
@variants
@one_device()
def test_everywhere_it_is_the_circuit_and_nowhere_the_circuit_without_the_edge(config):
    model, means = random_model(config)
    nodes = some_nodes(model)
    every = circuit_of(model, means, nodes).edges
    circuit = circuit_of(model, means, nodes, every[::4], CALIBRATION)
    run = ActingEdges(circuit, model)
    network = with_biases(model).network
    ask = jax.jit(lambda params: pair_difference(network, params, PAIRS, only(circuit)))

    def loss(cut):
        return pair_losses(np.asarray(ask(remove_edges(cut, model).params)), 0.7, 0.1).mean()

    whole_loss, falls = loss(circuit), []
    for edge in range(0, len(circuit.edges), len(circuit.edges) // 4):
        lesser = circuit.edges[:edge] + circuit.edges[edge + 1 :]
        without = loss(dataclasses.replace(circuit, edges=lesser))
        everywhere, nowhere = run.losses(edge, [np.ones_like(WHERE), np.zeros_like(WHERE)], PAIRS)
        assert everywhere == pytest.approx(whole_loss, abs=2e-5)
        assert nowhere == pytest.approx(without, abs=2e-5)
        falls.append(abs(without - whole_loss))
    assert max(falls) > 1e-3


@pytest.mark.slow
def test_all_edges_of_a_model_are_one_program():
    _, circuit, run = whole(VARIANTS["plain"])
    before = run.compilations
    run.losses(0, [WHERE] * 5, PAIRS)
    run.losses(len(circuit.edges) - 1, [WHERE], PAIRS)
    run.deviations(0, PAIRS)
    run.deviations(7, PAIRS)
    assert before <= run.compilations <= 2


@pytest.mark.slow
def test_deviations_are_of_what_the_edge_carries():
    model, circuit, run = whole(VARIANTS["plain"])
    tokens = PAIRS.tokens.reshape(-1, PAIRS.tokens.shape[-1])
    _, hooks = oracle.forward(
        released_config(model.config), released_state(model.config, model.params), tokens
    )
    for edge in range(0, len(circuit.edges), len(circuit.edges) // 8):
        source, target = (circuit.nodes[end] for end in circuit.edges[edge][:2])
        carried = wires_into(model.config.n_layer)[target.site].carried
        away = np.abs(hooks[carried][..., source.index] - circuit.means[carried][source.index])
        np.testing.assert_allclose(run.deviations(edge, PAIRS), away.reshape(PAIRS.tokens.shape), atol=1e-5)

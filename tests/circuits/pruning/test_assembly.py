"""A circuit as it is saved: what its file says is what running it from the file gives."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.edge_removal import remove_edges
from circuits_jax.circuits.ablation.means import Subject, mean_activations
from circuits_jax.circuits.ablation.pairs import PairBatch, pair_difference
from circuits_jax.circuits.circuit import Calibration, Node, load_circuit
from circuits_jax.circuits.masks import full_masks
from circuits_jax.circuits.planted import plant
from circuits_jax.circuits.pruning.assembly import choose_edges, make_circuit
from circuits_jax.circuits.pruning.jobs import Pruned
from circuits_jax.config import PruneConfig, to_dict
from circuits_jax.model.fingerprint import model_hash
from circuits_jax.model.taps import mix

pytestmark = pytest.mark.computes

PAIRS = 64
PRUNE = PruneConfig(edge_steps=10, batch_pairs=16, importance_pairs=32, importance_nodes=8, test_pairs=PAIRS)


class Words:
    """A tokenizer, as far as a circuit names one."""

    hash = "c" * 64


@functools.cache
def case():
    """(planted network with a useless weight in its circuit, the model with its means, the nodes' masks)."""
    planted = plant("quotes", 2, PAIRS, PAIRS, PAIRS)
    layer = planted.params["h_0"]["mlp"]
    detector = next(
        node.index
        for node in planted.nodes
        if node.site == "0.mlp.post_act" and layer["c_fc"]["bias"][node.index] < 0
    )
    # The detector fires alike on both prompts, so that what it writes to the type's channel tells nothing.
    for write in (node.index for node in planted.nodes if node.site == "0.mlp.resid_delta"):
        if not layer["c_proj"]["kernel"][detector, write]:
            layer["c_proj"]["kernel"][detector, write] = 0.02
    masks = full_masks(planted.config, 0.0)
    for site, index in planted.nodes:
        masks[site][index] = 1
    model = dataclasses.replace(planted.model, tokenizer=Words())
    return planted, Subject(model, mean_activations(model, planted.corpus)), masks


@functools.cache
def circuit():
    planted, subject, masks = case()
    metrics = {
        "full/test/loss": 0.25,
        "full/select/calibrated_loss": 0.1,
        "full/train/calibrated_loss": 0.1,
        "train/calibrated_loss": 0.1,
        "select/calibrated_loss": 0.1,
        "test/calibrated_loss": 99.0,
        "nodes": 99.0,
    }
    taus = {site: mask - 0.5 for site, mask in masks.items()}
    pruned = Pruned(masks, Calibration(1, 0), metrics, met_target=False, mediocre=True, taus=taus)
    return make_circuit(pruned, subject, PRUNE, planted.splits)


@functools.partial(jax.jit, static_argnames="network")
def difference(network, params, masks, means, pairs):
    return pair_difference(network, params, pairs, tap=mix(masks, means))


def figures(found, pairs):
    """(loss, calibrated loss, accuracy, calibrated accuracy) of a circuit as any user of its file runs it."""
    planted, *_ = case()
    model = remove_edges(found, planted.model)
    data = PairBatch(pairs.tokens, pairs.last, pairs.answers)
    d = np.asarray(difference(model.network, model.params, found.masks(), dict(found.means), data))
    margins = d * [1, -1]
    calibrated = (found.calibration.scale * d + found.calibration.shift) * [1, -1]
    losses = (np.log1p(np.exp(-x)).mean() for x in (margins, calibrated))
    return (*losses, (margins > 0).mean(), (calibrated > 0).mean())


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "select", "test"])
def test_the_saved_figures_are_those_of_the_circuit_as_it_is_saved(tmp_path, split):
    planted, *_ = case()
    circuit().save(tmp_path)
    found = load_circuit(tmp_path)
    kinds = ("loss", "calibrated_loss", "accuracy", "calibrated_accuracy")
    names = [f"{split}/{kind}" for kind in kinds]
    expected = figures(found, getattr(planted.splits, split))
    assert [found.metrics[name] for name in names] == pytest.approx(expected, abs=1e-4)
    assert found.metrics[f"{split}/calibrated_loss"] <= PRUNE.target


def test_an_edge_left_out_of_the_file_is_out_of_the_network():
    planted, *_ = case()
    model = remove_edges(circuit(), planted.model)
    left = graph.edges_of(planted.config, model.params, circuit().nodes)
    assert model.config == planted.config
    assert [edge[:2] for edge in left] == [edge[:2] for edge in circuit().edges]


def test_counts_before_and_after():
    planted, *_ = case()
    found, metrics = circuit(), circuit().metrics
    ends = {(found.nodes[e.source], found.nodes[e.target]) for e in found.edges}
    assert set(found.nodes) == set(planted.nodes) and ends == set(planted.edges)
    assert (metrics["nodes"], metrics["edges"]) == (len(planted.nodes), len(planted.edges))
    assert metrics["nodes_before_edges"] == len(planted.nodes)
    assert metrics["edges_before"] == len(planted.edges) + 1
    assert metrics["full/test/loss"] == 0.25


def test_provenance_says_what_came_of_it():
    planted, *_ = case()
    found = circuit()
    assert found.provenance["met_target"] is True and found.provenance["mediocre_model"] is True
    assert found.provenance["given_up"] is False
    assert found.provenance["prune"] == to_dict(PRUNE)
    assert found.model_hash == model_hash(planted.config, planted.params)
    found.check_model(found.model_hash, "c" * 64)
    assert not any(found.bias_only)


def test_the_learnt_masks_are_kept(tmp_path):
    circuit().save(tmp_path)
    found, (*_, masks) = load_circuit(tmp_path).taus, case()
    assert set(found) == set(masks)
    for site, mask in masks.items():
        np.testing.assert_array_equal(found[site], mask - 0.5)


def test_every_node_and_edge_is_weighed():
    found = circuit()
    assert found.importance.node_deltas.shape == (len(found.nodes),)
    assert found.importance.edge_deltas.shape == (len(found.edges),)
    assert min(*found.importance.node_deltas, *found.importance.edge_deltas) > 0.02
    assert found.importance.pairs == 32 and found.importance.correlation["nodes"] == 8


def test_a_whole_circuit_runs_on_the_models_own_parameters():
    planted, *_ = case()
    nodes = (Node("0.attn.q", 1), *planted.nodes)
    every = graph.edges_of(planted.config, planted.params, nodes)
    whole = type(circuit())(**{**vars(circuit()), "nodes": nodes, "edges": every})
    assert remove_edges(whole, planted.model) is planted.model


def test_what_was_given_up_keeps_all_edges_between_its_nodes():
    planted, subject, masks = case()
    pruned = Pruned(masks, Calibration(1, 0), {}, met_target=False, mediocre=True, given_up=True)
    chosen = choose_edges(pruned, subject, PRUNE, planted.splits)
    assert chosen.edges == chosen.every and len(chosen.every) == len(planted.edges) + 1
    made = make_circuit(pruned, subject, PRUNE, planted.splits, chosen)
    assert made.provenance["given_up"] is True and made.importance is None

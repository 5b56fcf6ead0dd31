"""Edge pruning on planted networks, whose edges are known, with more edges and nodes thrown in."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.means import Subject, mean_activations
from circuits_jax.circuits.ablation.pairs import PairBatch
from circuits_jax.circuits.circuit import Node
from circuits_jax.circuits.masks import full_masks
from circuits_jax.circuits.planted import DESIGNS, plant
from circuits_jax.circuits.pruning.edges import prune_edges
from circuits_jax.circuits.pruning.probes import Asked
from circuits_jax.config import PruneConfig
from circuits_jax.model.wiring import wires
from circuits_jax.storage.errors import ConfigError

pytestmark = pytest.mark.computes

PAIRS = 64
PRUNE = PruneConfig(edge_steps=10, batch_pairs=16)
USELESS = 0.01  # a weight too small to matter


@functools.cache
def network(name):
    """(planted network with useless weights between its nodes, means, which were added)."""
    planted = plant(name, 0, PAIRS, PAIRS, PAIRS)
    params = jax.tree.map(np.copy, planted.params)
    added = set()
    for wire in wires(planted.config.n_layer):
        weights = wire.weights(params)  # a view of `params`
        for source in (node for node in planted.nodes if node.site == wire.source):
            for target in (node for node in planted.nodes if node.site == wire.target):
                if not weights[source.index, target.index]:
                    weights[source.index, target.index] = USELESS
                    added.add((source, target))
    return dataclasses.replace(planted, params=params), added


@functools.cache
def means_of(name):
    planted, _ = network(name)
    return mean_activations(planted.model, planted.corpus)


def pruned(name, masks, prune=PRUNE, planted=None, more=()):
    planted = planted or network(name)[0]
    pairs, subject = planted.train, Subject(planted.model, means_of(name))
    data, answers = PairBatch(pairs.tokens, pairs.last, pairs.answers), np.unique(pairs.answers)
    by = [Asked(data, prune.limit), *(Asked(each, prune.target) for each in more)]
    return prune_edges(subject, masks, prune, by, answers)


def masks_of(planted, more=()):
    masks = full_masks(planted.config, 0.0)
    for site, index in [*planted.nodes, *more]:
        masks[site][index] = 1
    return masks


def ends(planted, masks):
    nodes = graph.nodes_of(planted.config, masks)
    return {(nodes[e.source], nodes[e.target]) for e in graph.edges_of(planted.config, planted.params, nodes)}


@pytest.mark.slow
@pytest.mark.parametrize("name", DESIGNS)
def test_exactly_the_planted_edges_are_left(name):
    planted, added = network(name)
    masks = masks_of(planted)
    assert ends(planted, masks) == set(planted.edges) | added
    assert len(added) > 5 or name == "brackets"  # whose nodes leave no room for more edges
    found = pruned(name, masks)
    assert found.edges == set(planted.edges)
    assert graph.nodes_of(planted.config, found.masks) == graph.nodes_of(planted.config, masks)


@pytest.mark.slow
def test_nodes_that_lose_all_their_edges_go_with_them():
    planted, _ = network("quotes")
    params = jax.tree.map(np.copy, planted.params)
    up, down = (
        next(w.weights(params) for w in wires(planted.config.n_layer) if w.source == source)
        for source in ("0.mlp.act_in", "0.mlp.post_act")
    )
    read = next(node for node in planted.nodes if node.site == "0.mlp.act_in")
    write = next(node for node in planted.nodes if node.site == "0.mlp.resid_delta")
    taken = {node.index for node in planted.nodes if node.site == "0.mlp.post_act"}
    idle = Node("0.mlp.post_act", min(set(range(planted.config.neurons)) - taken))
    up[read.index, idle.index] = down[idle.index, write.index] = USELESS
    planted, masks = dataclasses.replace(planted, params=params), masks_of(planted, [idle])
    assert {(read, idle), (idle, write)} <= ends(planted, masks)
    found = pruned("quotes", masks, planted=planted)
    assert found.edges == set(planted.edges)
    assert set(graph.nodes_of(planted.config, found.masks)) == set(planted.nodes)


def test_without_steps_every_edge_stays():
    planted, _ = network("quotes")
    masks = masks_of(planted)
    found = pruned("quotes", masks, dataclasses.replace(PRUNE, edge_steps=0))
    assert found.edges == ends(planted, masks)


def test_a_circuit_that_misses_the_target_keeps_its_edges():
    planted, _ = network("quotes")
    masks = masks_of(planted)
    masks["1.attn.resid_delta"][:] = 0
    assert pruned("quotes", masks).edges == ends(planted, masks)


def test_a_circuit_that_misses_the_target_on_other_pairs_than_it_learns_by_keeps_its_edges():
    planted, added = network("quotes")
    masks, select = masks_of(planted), planted.splits.select
    pairs = PairBatch(select.tokens, select.last, select.answers)
    exchanged = pairs._replace(answers=pairs.answers[:, ::-1])
    quick = dataclasses.replace(PRUNE, edge_steps=1)
    assert added  # which would go if training pairs alone were looked at (above)
    assert pruned("quotes", masks, quick, more=[exchanged]).edges == ends(planted, masks)


def test_a_circuit_without_edges():
    planted, _ = network("quotes")
    masks = full_masks(planted.config, 0.0)
    masks["0.attn.act_in"][3] = 1
    found = pruned("quotes", masks)
    assert found.edges == frozenset() and found.masks["0.attn.act_in"].sum() == 1


@pytest.mark.parametrize("field", ["edge_steps", "importance_nodes", "importance_pairs"])
def test_settings_that_cannot_be_used_are_refused(field):
    with pytest.raises(ConfigError, match=f"prune.{field}.*-1"):
        PruneConfig(**{field: -1})

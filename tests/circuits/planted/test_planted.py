import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.means import Subject
from circuits_jax.circuits.ablation.pairs import PairBatch, pair_difference
from circuits_jax.circuits.circuit import Node
from circuits_jax.circuits.masks import full_masks
from circuits_jax.circuits.planted import CONFIG, DESIGNS, Wiring, plant, score
from circuits_jax.circuits.pruning.nodes import Pruner
from circuits_jax.config import PruneConfig
from circuits_jax.model.sites import node_sites
from circuits_jax.model.taps import mix
from circuits_jax.model.transformer import Transformer
from circuits_jax.model.wiring import wires
from circuits_jax.storage.errors import ConfigError
from circuits_jax.tasks.calibration import calibrate

pytestmark = pytest.mark.computes

TARGET, CHANCE = PruneConfig().target, math.log(2)
PAIRS = 64
SUPERPOSED = " superposed"
names = pytest.mark.parametrize("name", DESIGNS)
every = pytest.mark.parametrize("name", [*DESIGNS, *(f"{name}{SUPERPOSED}" for name in DESIGNS)])


@functools.cache
def network(name):
    return plant(
        name.removesuffix(SUPERPOSED), 0, PAIRS, PAIRS, PAIRS, Wiring(superposed=name.endswith(SUPERPOSED))
    )


NETWORK = Transformer(CONFIG)


@jax.jit
def activations(params, tokens, masks, means):
    """(logits, activations of every node site), with the nodes ablated where `masks` are 0."""
    return NETWORK.apply(params, tokens, tap=mix(masks, means), record=tuple(node_sites(CONFIG)))


@functools.cache
def means_of(name):
    """Mean of every node over the corpus."""
    planted = network(name)
    zeros = {site: jnp.zeros(width) for site, width in node_sites(CONFIG).items()}
    tokens = planted.corpus.reshape(-1, CONFIG.n_ctx)
    _, records = activations(planted.params, tokens, full_masks(CONFIG), zeros)
    return {site: x.mean((0, 1)) for site, x in records.items()}


def subject(name):
    return Subject(network(name).model, means_of(name))


@jax.jit
def losses(params, means, masks, pairs):
    """Calibrated loss with each of the stacked masks."""

    def loss(kept):
        return calibrate(pair_difference(NETWORK, params, pairs, mix(kept, means)))[2]

    return jax.lax.map(loss, masks)


def losses_of(name, masks, split="train"):
    """Calibrated loss of the network `name` with each of `masks`, padded so that all calls compile once."""
    planted = network(name)
    pairs = getattr(planted.splits, split)
    padded = masks + [masks[0]] * (16 - len(masks))
    stacked = {site: jnp.stack([m[site] for m in padded]) for site in masks[0]}
    data = PairBatch(*map(jnp.asarray, (pairs.tokens, pairs.last, pairs.answers)))
    found = losses(planted.params, means_of(name), stacked, data)
    return np.asarray(found)[: len(masks)]


def masks_of(planted, keep=lambda node: True):
    masks = full_masks(planted.config, 0.0)
    for node in planted.nodes:
        masks[node.site][node.index] = keep(node)
    return masks


def right_answer(name, prompt):
    """Solves a prompt by reading it."""
    tokens = prompt.split()
    if name == "quotes":
        return 'double"' if 'open"' in tokens else "single'"
    if name == "brackets":
        return {2: "]]", 1: "]"}[tokens.count("[") - tokens.count("]")]
    slot = next(token[1:] for token in tokens if token[:-1] == tokens[-1][:-1] and token[-1] != "?")
    kind = next(token[:-1] for token in tokens if token in (f"set{slot}", f"str{slot}"))
    return {"set": ".add", "str": " +="}[kind]


@pytest.mark.slow
@every
def test_the_planted_circuit_alone_holds_the_target(name):
    planted = network(name)
    circuit, everything = masks_of(planted), full_masks(planted.config)
    for split in ("train", "select", "test"):
        assert losses_of(name, [circuit, everything], split).max() < TARGET / 3


@pytest.mark.slow
@every
def test_without_any_one_planted_node_the_target_is_missed(name):
    planted = network(name)
    trials = [masks_of(planted, lambda node, gone=gone: node != gone) for gone in planted.nodes]
    found = dict(zip(planted.nodes, losses_of(name, trials), strict=True))
    assert min(found.values()) > 2 * TARGET, found


@pytest.mark.slow
@every
def test_the_distractors_alone_do_not_solve_the_task(name):
    planted = network(name)
    others = {site: 1 - mask for site, mask in masks_of(planted).items()}
    assert losses_of(name, [others])[0] > 0.9 * CHANCE


@names
def test_the_distractors_are_active_and_reach_the_answers(name):
    planted = network(name)
    tokens = planted.corpus.reshape(-1, CONFIG.n_ctx)
    means = means_of(name)
    logits, records = activations(planted.params, tokens, full_masks(CONFIG), means)
    for site, x in records.items():
        mine = [node.index for node in planted.nodes if node.site == site]
        others = np.delete(np.asarray(x), mine, axis=-1)
        assert (others.std(axis=(0, 1)) > 0.01).mean() > 0.4, site
    alone, _ = activations(planted.params, tokens, masks_of(planted), means)
    answer = planted.test.answers[0, 0]
    assert float(jnp.std(logits[..., answer] - alone[..., answer])) > 0.1


@names
def test_the_wiring_is_what_the_graph_reads_off(name):
    planted = network(name)
    masks = masks_of(planted)
    nodes = graph.nodes_of(planted.config, masks)
    edges = graph.edges_of(planted.config, planted.params, nodes)
    assert set(nodes) == set(planted.nodes)
    assert {(nodes[e.source], nodes[e.target]) for e in edges} == set(planted.edges)
    answers = np.unique(planted.train.answers)
    for flags in (
        graph.reached(planted.config, planted.params, masks),
        graph.useful(planted.config, planted.params, masks, answers),
    ):
        assert all(flags[node.site][node.index] for node in nodes)


@names
def test_pairs_are_contrast_pairs_whose_answers_follow_from_the_prompt(name):
    for pairs in network(name).splits:
        for i in range(PAIRS):
            a, b = pairs.tokens[i]
            end = pairs.last[i]
            assert (a != b).any() and a[end] == b[end] and not a[end + 1 :].any() and not b[end + 1 :].any()
            assert a[: end + 1].all()
            for text, answer in zip(pairs.texts[i], pairs.continuations[i], strict=True):
                assert right_answer(name, text) == answer
                assert len(text.split()) == end + 1


@names
def test_the_splits_share_no_word(name):
    def words(pairs):
        return {word for texts in pairs.texts for word in texts[0].split() if word.startswith("word")}

    train, select, test = map(words, network(name).splits)
    assert min(map(len, (train, select, test))) > 5
    assert not train & select and not train & test and not select & test


def test_a_seed_decides_everything_and_seeds_differ():
    again, other = plant("quotes", 0, PAIRS, PAIRS, PAIRS), plant("quotes", 1, PAIRS, PAIRS, PAIRS)
    same = jax.tree.map(np.array_equal, again.params, network("quotes").params)
    assert all(jax.tree.leaves(same))
    np.testing.assert_array_equal(again.train.tokens, network("quotes").train.tokens)
    assert other.nodes != again.nodes and len(other.nodes) == len(again.nodes)


@names
def test_superposed_distractors_share_the_circuits_channels_and_leave_its_weights(name):
    plain, shared = network(name), network(name + SUPERPOSED)
    assert (plain.nodes, plain.edges) == (shared.nodes, shared.edges)
    units = {node.index for node in plain.nodes if node.site.endswith("mlp.post_act")}
    foreign = {True: 0, False: 0}  # weights of other neurons into the circuit's channels
    for wire in wires(CONFIG.n_layer):
        before, after = (np.asarray(wire.weights(each.params)) for each in (plain, shared))
        mine = [(i.index, j.index) for i, j in plain.edges if (i.site, j.site) == (wire.source, wire.target)]
        assert all(before[at] == after[at] != 0 for at in mine)
        written = [node.index for node in plain.nodes if node.site == wire.target]
        if wire.source.endswith("post_act"):
            others = [i for i in range(CONFIG.neurons) if i not in units]
            for superposed, weights in ((False, before), (True, after)):
                foreign[superposed] += np.count_nonzero(weights[np.ix_(others, written)])
    assert foreign[False] == 0 and (foreign[True] > 10 or name == "binding")  # which has no neurons
    ours = [node.index for node in plain.nodes if node.site == "0.attn.act_in" or node.site == "0.mlp.act_in"]
    before, after = (np.asarray(each.params["wte"]["embedding"])[-8:, ours] for each in (plain, shared))
    assert not before.any() and after.all()  # what words have there


def test_scores_are_shares_of_the_found_and_of_the_planted():
    planted = dataclasses.replace(
        network("quotes"),
        nodes=(Node("0.attn.q", 1), Node("0.attn.q", 2), Node("0.attn.q", 3), Node("0.attn.q", 4)),
        edges=((Node("0.attn.q", 1), Node("0.attn.q", 2)),),
    )
    found = score(planted, [Node("0.attn.q", 1), Node("0.attn.k", 1)], [])
    assert (found.node_precision, found.node_recall) == (0.5, 0.25)
    assert (found.edge_precision, found.edge_recall) == (0, 0)
    exact = score(planted, planted.nodes, planted.edges)
    assert set(dataclasses.astuple(exact)) == {1.0}


def test_an_unknown_circuit_is_refused_and_the_choices_named():
    with pytest.raises(ConfigError, match="quotes, brackets, binding"):
        plant("quote", 0)


@functools.cache
def pruner():
    """A pruner of any of the networks: they share its compilations."""
    config = PruneConfig(steps=10, batch_pairs=16)
    return Pruner(subject("quotes"), config, jax.devices()[:1])


@pytest.mark.slow
@every
def test_pruning_recovers_the_circuit(name):
    planted = network(name)
    pruned = pruner().on(subject(name)).prune(planted.splits)
    nodes = graph.nodes_of(planted.config, pruned.masks)
    edges = graph.edges_of(planted.config, planted.params, nodes)
    found = score(planted, nodes, [(nodes[e.source], nodes[e.target]) for e in edges])
    assert (found.node_recall, found.edge_recall) == (1, 1)
    assert min(found.node_precision, found.edge_precision) >= 0.95
    assert pruned.met_target

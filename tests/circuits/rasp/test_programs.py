"""Compiled programs: our forward is tracr's, answers are the programs', and what is known of them is true."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest

from circuits_jax.circuits import graph
from circuits_jax.circuits.circuit import Node
from circuits_jax.circuits.masks import full_masks
from circuits_jax.circuits.rasp import PROGRAMS, RaspProgram, embed, load, truth_of
from circuits_jax.circuits.rasp.network import GAIN
from circuits_jax.circuits.rasp.truth import subject_of
from circuits_jax.config import PruneConfig
from circuits_jax.model import parameters, sites
from circuits_jax.model.wiring import wires
from circuits_jax.storage.errors import ConfigError, UserError
from tests.circuits.rasp.by_hand import by_hand

pytestmark = pytest.mark.computes

# A causal program and one of full attention, whose queries are scaled; the rest are slow tests.
SMALL = ("previous_token", "count")
programs = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SMALL else pytest.mark.slow) for name in PROGRAMS]
)


@functools.cache
def network(name):
    return embed(load(name), seed=3)


@programs
def test_our_forward_is_tracrs_at_every_position(name):
    net = network(name)
    _, records = net.model.apply(net.compiled.recorded, record=["final_resid"])
    for half, place in ((net.compiled.asked, net.asked), (net.compiled.beside, net.beside)):
        ours = np.asarray(records["final_resid"])[..., place.residual]
        np.testing.assert_allclose(ours, half.residuals, atol=1e-5 * max(1, np.abs(half.residuals).max()))
        assert half.residuals.std() > 0.05


def evaluate(name, tokens):
    """What the program gives at its position, by a reading of its definition that is not tracr's."""
    place = PROGRAMS[name].position
    here = tokens[place - 1]
    so_far = tokens[:place]
    balance = [tokens[: i + 1].count("(") - tokens[: i + 1].count(")") for i in range(len(tokens))]
    return {
        "frac_prevs": lambda: so_far.count("x") / place,
        "bracket_balance": lambda: balance[place - 1] / place,
        "balanced_brackets": lambda: float(balance[-1] == 0 and min(balance) >= 0),
        "detect_pattern": lambda: float(so_far[-2:] == ("a", "b")),
        "count": lambda: tokens.count("x"),
        "count_by_position": lambda: tokens.count("x"),
        "previous_token": lambda: tokens[place - 2],
        "reverse": lambda: tokens[-place],
        "sort": lambda: sorted(tokens)[place - 1],
        "histogram": lambda: tokens.count(here),
    }[name]()


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_inputs_are_all_that_give_one_of_the_two_answers(name):
    program, compiled = PROGRAMS[name], load(name)
    expected = {}
    for tokens in itertools.product(program.tokens, repeat=program.length):
        if program.distinct and len(set(tokens)) < len(tokens):
            continue
        value = evaluate(name, tokens)
        for which, answer in enumerate(program.answers):
            if abs(value - answer) < 1e-6:
                expected[tokens] = which
    found = [tuple(compiled.tokens[i] for i in row[1:]) for row in compiled.inputs]
    assert dict(zip(found, compiled.right, strict=True)) == expected
    assert len(found) == len(expected) and set(compiled.right) == {0, 1}


@programs
def test_the_network_gives_the_right_answers(name):
    net = network(name)
    pairs = net.pairs(0, seed=0)
    assert {tuple(row) for row in pairs.tokens.reshape(-1, pairs.tokens.shape[-1])} == {
        tuple(row) for row in net.inputs
    }
    logits, _ = net.model.apply(net.inputs)
    first, second = (logits[:, net.compiled.position, token] for token in net.answers)
    np.testing.assert_allclose(first - second, GAIN * (1 - 2 * net.compiled.right), atol=1e-2)


def test_every_weight_of_both_programs_is_in_the_network_and_nothing_else():
    net = network("count")
    halves = (net.compiled.asked, net.compiled.beside)
    names = {
        parameters.QKV: ("query", "key", "value"),
        parameters.ATTENTION_OUT: ("attention_out",),
        parameters.MLP_IN: ("mlp_in",),
        parameters.MLP_OUT: ("mlp_out",),
    }
    for linear, parts in names.items():
        ours = sum(
            np.count_nonzero(parameters.get(net.model.params, linear, layer)["kernel"])
            for layer in range(net.model.config.n_layer)
        )
        assert ours == sum(np.count_nonzero(half.kernels[part]) for half in halves for part in parts)
    shared = set(net.asked.residual) & set(net.beside.residual)
    assert not shared and list(net.asked.residual) != sorted(net.asked.residual)


def brute_force(net):
    """Core nodes and edges by holding one part after the other at its mean."""
    config, run = net.model.config, by_hand(net)
    signs = 1 - 2 * net.compiled.right
    assert (run() * signs > 0.9 * GAIN).all()

    def needed(held):
        return not (run(held) * signs > 1e-3 * GAIN).all()

    nodes = {
        Node(site, index)
        for site, width in sites.node_sites(config).items()
        for index in range(width)
        if needed((site, index))
    }
    edges = {
        (Node(wire.source, int(i)), Node(wire.target, int(j)))
        for wire in wires(config.n_layer)
        for i, j in np.argwhere(np.asarray(wire.weights(net.model.params)))
        if needed((wire.source, int(i), wire.target, int(j)))
    }
    return nodes, edges


@pytest.mark.parametrize("name", ["count", pytest.param("sort", marks=pytest.mark.slow)])
def test_the_core_is_what_is_needed_of_all_nodes_and_weights(name):
    net = network(name)
    truth = truth_of(net, subject_of(net), PruneConfig())
    nodes, edges = brute_force(net)
    assert (truth.core.nodes, truth.core.edges) == (nodes, edges)
    assert nodes and edges
    assert nodes <= truth.slice.nodes and edges <= truth.slice.edges


def test_the_slice_leads_to_the_answer_and_holds_nothing_of_the_other_program():
    net = network("count")
    truth = truth_of(net, subject_of(net), PruneConfig())
    config, params = net.model.config, net.model.params
    leads = graph.useful(config, params, full_masks(config), net.answers)
    assert all(leads[node.site][node.index] for node in truth.slice.nodes)
    read = {node.index for node in truth.slice.nodes if node.site.endswith(("act_in", "resid_delta"))}
    assert read <= set(net.asked.residual)
    neurons = {node.index for node in truth.slice.nodes if node.site.endswith("post_act")}
    assert neurons and neurons <= set(net.asked.neurons)


def test_a_program_longer_than_its_context_is_one_line():
    with pytest.raises(ConfigError, match=r"^the program count reads 4 tokens.* context of 3; .*$"):
        dataclasses.replace(PROGRAMS["count"], context=2)
    compiled = load("count")
    with pytest.raises(ConfigError, match="reads 6 tokens.* more than the context of 4"):
        dataclasses.replace(compiled, inputs=np.pad(compiled.inputs, ((0, 0), (0, 2))))
    with pytest.raises(ConfigError, match="longer than the context of 4"):
        network("count").model.apply(np.zeros((1, 5), np.int32))


def test_unknown_and_damaged_programs_are_one_line(tmp_path):
    with pytest.raises(ConfigError, match="no compiled program 'nonsense'; choose of frac_prevs"):
        load("nonsense")
    (tmp_path / "count.npz").write_bytes(b"PK nonsense")
    with pytest.raises(UserError, match="is no compiled program"):
        load("count", tmp_path)


def test_a_position_outside_of_the_input_is_refused():
    with pytest.raises(ConfigError, match="read at position 4; give one from 1 to 3"):
        dataclasses.replace(PROGRAMS["count"], position=4)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_compiled_anew_the_weights_are_those_that_come_with_the_library(name):
    pytest.importorskip("tracr", reason="needs the extra tracr")
    from circuits_jax.circuits.rasp.compiling import compile_program

    made, shipped = compile_program(PROGRAMS[name]), load(name)
    for which in ("asked", "beside"):
        ours, theirs = getattr(made, which), getattr(shipped, which)
        for key, kernel in theirs.kernels.items():
            np.testing.assert_allclose(ours.kernels[key], kernel, atol=1e-6)
    assert np.array_equal(made.inputs, shipped.inputs) and np.array_equal(made.right, shipped.right)


def test_a_program_of_ones_own_has_the_same_checks():
    with pytest.raises(ConfigError, match="position 0"):
        RaspProgram("mine", "", ("a",), 2, 0, (0.0, 1.0), lambda r, li: r.tokens, lambda r, li: r.tokens)

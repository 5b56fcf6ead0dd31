"""Removing edges is a change of parameters; what it must amount to is checked in the one forward pass."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.edge_removal import (
    LEAST_CAPACITY,
    edge_set,
    fold,
    with_biases,
    without_edges,
)
from circuits_jax.circuits.ablation.means import mean_activations, reference_activations, reference_sites
from circuits_jax.circuits.circuit import Node
from circuits_jax.circuits.masks import full_masks
from circuits_jax.config import ModelConfig
from circuits_jax.model.model import Model
from circuits_jax.model.parameters import get
from circuits_jax.model.sites import node_sites
from circuits_jax.model.taps import mix
from circuits_jax.model.transformer import init_params
from circuits_jax.model.wiring import linear_layers, wires
from tests.quick import quick_cases

SMALL = ModelConfig(
    n_layer=2, d_model=8, d_head=4, n_head=3, d_mlp=12, n_ctx=8, vocab_size=10, activation_fraction=0.5
)
VARIANTS = {
    "plain": SMALL,
    "no_bias": dataclasses.replace(SMALL, bias=False, norm_bias=False),
    "no_topk_no_sink": dataclasses.replace(SMALL, activation_fraction=None, attention_sink=False),
    "positions": dataclasses.replace(SMALL, position="concat", d_pos=3, norm="layer"),
}
variants = pytest.mark.parametrize("config", quick_cases(VARIANTS, ("plain",)))
TOKENS = np.random.default_rng(0).integers(0, 10, (4, 7))


def shapes(config):
    return jax.eval_shape(lambda: init_params(config, jax.random.key(0)))


@functools.cache
def random_model(config):
    """(a model whose parameters are sparse, random, as large as trained ones; means over some tokens)."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        kept = rng.random(leaf.shape) < (0.6 if leaf.ndim > 1 else 1)
        scale = 1 if path[-1].key == "scale" else 0
        return (np.where(kept, 0.7 * rng.standard_normal(leaf.shape), 0) + scale).astype(np.float32)

    model = Model(config, jax.tree_util.tree_map_with_path(draw, shapes(config)))
    return model, reference_activations(model, TOKENS[None], "mean")


def all_edges(model):
    nodes = graph.nodes_of(model.config, full_masks(model.config))
    return nodes, graph.edges_of(model.config, model.params, nodes)


@functools.partial(jax.jit, static_argnames="network")
def forward(network, params, masks, others):
    """(logits, activations), with `others` where `masks` are 0."""
    record = tuple(reference_sites(network.config))
    return network.apply(params, TOKENS, tap=mix(masks, others), record=record)


@functools.partial(jax.jit, static_argnames="network")
def folded_forward(network, params, means, places, kept):
    params = fold(network.config, params, means, places, kept)
    return forward(network, params, open_masks(network.config), means)


def open_masks(config):
    return {site: np.ones(width, np.float32) for site, width in reference_sites(config).items()}


def plain(model, means):
    return forward(model.network, model.params, open_masks(model.config), means)


def held(model, means, site, index):
    """With one channel at `means`."""
    masks = open_masks(model.config)
    masks[site][index] = 0
    return forward(model.network, model.params, masks, means)


def run(model, means, gone, nodes):
    """The forward pass without the edges `gone`."""
    model = with_biases(model)
    places = edge_set(model.config, nodes, gone)
    none = np.zeros(places.capacity, np.float32)
    return folded_forward(model.network, model.params, means, places, none)


@variants
def test_without_nothing_it_is_the_same_network(config):
    model, means = random_model(config)
    nodes, edges = all_edges(model)
    biased = with_biases(model)
    places = edge_set(config, nodes, edges)
    kept = np.ones(places.capacity, np.float32)
    same, _ = folded_forward(biased.network, biased.params, means, places, kept)
    expected, _ = plain(model, means)
    np.testing.assert_allclose(same, expected, atol=1e-6)
    np.testing.assert_allclose(run(model, means, [], nodes)[0], expected, atol=1e-6)


@variants
def test_without_all_edges_out_of_a_node_it_is_held_at_its_mean(config):
    model, means = random_model(config)
    nodes, edges = all_edges(model)
    before, _ = plain(model, means)
    for site in node_sites(config):
        if site.endswith(("q", "k", "resid_delta")):
            continue  # no edge leaves them
        carried = site.replace("attn.v", "attn.y")  # what an edge from v carries, the sink's share taken
        moved = 0
        for index in sorted({node.index for node in (nodes[e.source] for e in edges) if node.site == site})[
            ::3
        ]:
            gone = [edge for edge in edges if nodes[edge.source] == (site, index)]
            expected, _ = held(model, means, carried, index)
            found, _ = run(model, means, gone, nodes)
            np.testing.assert_allclose(found, expected, atol=3e-5)
            moved = max(moved, np.abs(found - before).max())
        assert moved > 1e-2, site  # some nodes never fire, but not all of them


def test_with_means_of_each_position_a_node_without_edges_is_held_at_those():
    config = dataclasses.replace(
        VARIANTS["no_topk_no_sink"], norm="none", attention="full", activation="relu"
    )
    model, _ = random_model(config)
    means = mean_activations(model, TOKENS[None], by_position=True)
    assert {x.shape[0] for x in means.values()} == {TOKENS.shape[1]}
    nodes, edges = all_edges(model)
    before, _ = plain(model, means)
    for site in ("0.mlp.act_in", "1.attn.v", "1.mlp.post_act"):
        moved = 0
        for index in range(6):
            gone = [edge for edge in edges if nodes[edge.source] == (site, index)]
            expected, _ = held(model, means, site.replace("attn.v", "attn.y"), index)
            found, _ = run(model, means, gone, nodes)
            np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(before).max())
            moved = max(moved, np.abs(found - before).max())
        assert moved > 1e-2, site  # some neurons are off, but not all of them


def test_an_edge_from_v_is_a_constant_even_where_the_sink_takes_its_share():
    model, means = random_model(SMALL)
    nodes, edges = all_edges(model)
    gone = [edge for edge in edges if nodes[edge.target].site == "0.attn.resid_delta"]
    opened = dataclasses.replace(SMALL, activation_fraction=None)
    _, records = run(Model(opened, model.params), means, gone, nodes)
    written = np.asarray(records["0.attn.resid_delta"]).reshape(-1, SMALL.d_model)
    layer = model.params["h_0"]["attn"]["c_proj"]
    expected = np.asarray(means["0.attn.y"]) @ layer["kernel"] + layer["bias"]
    np.testing.assert_allclose(written, np.broadcast_to(expected, written.shape), atol=1e-5)


def test_one_edge_less_moves_its_target_by_weight_times_the_deviation_and_nothing_beside_it():
    # Without AbsTopK, and with all neurons in their linear range, a target is linear in what it reads.
    config = dataclasses.replace(SMALL, activation_fraction=None, activation="relu")
    model, _ = random_model(config)
    params = jax.tree.map(np.copy, model.params)
    for layer in range(config.n_layer):
        params[f"h_{layer}"]["mlp"]["c_fc"]["bias"][:] = 50.0
    model = Model(config, params)
    means = reference_activations(model, TOKENS[None], "mean")
    nodes, edges = all_edges(model)
    _, before = plain(model, means)
    seen = {}
    for edge in edges[:: len(edges) // 60]:
        source, target = nodes[edge.source], nodes[edge.target]
        seen[source.site, target.site] = edge
        _, after = run(model, means, [edge], nodes)
        change = np.asarray(after[target.site] - before[target.site])
        carried = source.site.replace("attn.v", "attn.y")
        deviation = np.asarray(before[carried][..., source.index] - means[carried][source.index])
        expected = np.zeros_like(change)
        expected[..., target.index] = -edge.weight * deviation
        np.testing.assert_allclose(change, expected, atol=2e-5)
    assert len(seen) == 6 * config.n_layer


def test_half_an_edge_is_half_way():
    model, means = random_model(SMALL)
    nodes, edges = all_edges(model)
    places = edge_set(SMALL, nodes, edges[:3])
    whole, half, none = (
        fold(SMALL, model.params, means, places, jnp.full(places.capacity, share))
        for share in (1.0, 0.5, 0.0)
    )
    jax.tree.map(lambda a, b, c: np.testing.assert_allclose(2 * b, a + c, atol=1e-5), whole, half, none)


def test_the_gradient_of_a_mask_is_the_slope_of_the_logits():
    config = dataclasses.replace(SMALL, activation_fraction=None)
    model, means = random_model(config)
    nodes, edges = all_edges(model)
    places = edge_set(config, nodes, edges)

    @jax.jit
    def figure(kept):
        return folded_forward(model.network, model.params, means, places, kept)[0][:, -1, 3].sum()

    ones = jnp.ones(places.capacity)
    grad = np.asarray(jax.grad(figure)(ones))
    assert not grad[len(edges) :].any()
    for i in np.argsort(-np.abs(grad))[:5]:
        slope = (figure(ones.at[i].add(1e-2)) - figure(ones.at[i].add(-1e-2))) / 2e-2
        assert grad[i] == pytest.approx(float(slope), rel=0.02)


@variants
def test_a_network_with_zero_biases_is_the_same_network(config):
    model, means = random_model(config)
    biased = with_biases(model)
    assert biased.config.bias and (biased is model) == config.bias
    assert jax.tree.structure(biased.params) == jax.tree.structure(shapes(biased.config))
    found, expected = plain(biased, means), plain(model, means)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)


@variants
def test_places_are_where_the_weights_lie(config):
    model, _ = random_model(config)
    nodes, edges = all_edges(model)
    places = edge_set(config, nodes, edges)
    table = linear_layers(config.n_layer)
    assert places.capacity >= max(len(edges), LEAST_CAPACITY) and places.capacity.bit_count() == 1
    assert set(places.matrix[len(edges) :]) == {-1}
    for edge, matrix, row, column in zip(edges, *places, strict=False):
        assert get(model.params, table[matrix].name)["kernel"][row, column] == np.float32(edge.weight)
    assert len(edges) == sum((wire.weights(model.params) != 0).sum() for wire in wires(config.n_layer))


def test_a_graph_without_edges_has_none_of_them_and_all_the_others():
    model, _ = random_model(SMALL)
    nodes, edges = all_edges(model)
    less = without_edges(SMALL, model.params, nodes, edges[::2])
    assert graph.edges_of(SMALL, less, nodes) == edges[1::2]
    assert graph.edges_of(SMALL, model.params, nodes) == edges
    assert edge_set(SMALL, (Node("0.attn.q", 1),), []).capacity == LEAST_CAPACITY


def test_replacing_a_mean_by_zero_changes_what_a_removed_edge_carries():
    model, means = random_model(SMALL)
    nodes, edges = all_edges(model)
    gone = [edge for edge in edges if nodes[edge.source].site == "1.mlp.post_act"]
    zeros = reference_activations(model, TOKENS[None], "zero")
    masks = {**open_masks(SMALL), "1.mlp.post_act": np.zeros(SMALL.neurons, np.float32)}
    silent, _ = forward(model.network, model.params, masks, zeros)
    np.testing.assert_allclose(run(model, zeros, gone, nodes)[0], silent, atol=1e-5)
    assert np.abs(run(model, means, gone, nodes)[0] - silent).max() > 1e-2

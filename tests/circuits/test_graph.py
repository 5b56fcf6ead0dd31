import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.circuits import graph
from circuits_jax.circuits.circuit import Entry, Node
from circuits_jax.circuits.masks import full_masks
from circuits_jax.config import ModelConfig
from circuits_jax.model.sites import node_sites
from circuits_jax.model.taps import add, mix
from circuits_jax.model.transformer import Transformer, init_params
from circuits_jax.model.wiring import wires

SMALL = ModelConfig(
    n_layer=1, d_model=4, d_head=2, d_mlp=4, n_ctx=8, vocab_size=6, bigram=False, activation_fraction=None
)
TWO = dataclasses.replace(SMALL, n_layer=2)
ANSWERS = np.array([4, 5])


def blank(config):
    """Parameters without a single nonzero weight, writable."""
    return jax.tree.map(lambda x: np.zeros(x.shape, np.float32), init_params(config, jax.random.key(0)))


def sparse(config, seed, keep=0.25):
    """Random parameters, of which a share `keep` is nonzero."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        return np.where(rng.random(leaf.shape) < keep, rng.standard_normal(leaf.shape), 0).astype(np.float32)

    return jax.tree.map(draw, init_params(config, jax.random.key(0)))


def masks_of(config, nodes):
    masks = full_masks(config, 0.0)
    for site, index in nodes:
        masks[site][index] = 1
    return masks


def flagged(flags):
    return {(site, int(i)) for site, values in flags.items() for i in np.flatnonzero(values)}


def chain():
    """Token embedding -> channel 0 -> neuron 2 -> channel 1 -> answer 4; returns (params, the nodes)."""
    params = blank(SMALL)
    params["wte"]["embedding"][3, 0] = 1.0
    params["h_0"]["mlp"]["c_fc"]["kernel"][0, 2] = 0.5
    params["h_0"]["mlp"]["c_proj"]["kernel"][2, 1] = -2.0
    params["lm_head"]["kernel"][1, 4] = 3.0
    return params, [("0.mlp.act_in", 0), ("0.mlp.post_act", 2), ("0.mlp.resid_delta", 1)]


def test_a_chain_from_embedding_to_answer():
    params, nodes = chain()
    masks = masks_of(SMALL, nodes)
    assert flagged(graph.reached(SMALL, params, masks)) == set(nodes)
    assert flagged(graph.useful(SMALL, params, masks, ANSWERS)) == set(nodes)
    found = graph.nodes_of(SMALL, masks)
    assert found == tuple(Node(*node) for node in nodes)
    assert graph.edges_of(SMALL, params, found) == ((0, 1, 0.5), (1, 2, -2.0))
    assert graph.embedding_entries(SMALL, params, found) == (Entry(3, 0, 1.0),)
    assert graph.unembedding_entries(SMALL, params, found, ANSWERS) == (Entry(4, 1, 3.0),)
    assert graph.unembedding_entries(SMALL, params, found, np.array([5])) == ()


def test_nodes_of_the_final_residual_stream_end_a_chain():
    params, nodes = chain()
    params["wte"]["embedding"][3, 2] = 1.0
    params["lm_head"]["kernel"][2, 5] = 4.0
    masks = masks_of(SMALL, nodes) | {"final_resid": np.float32([0, 1, 1, 1])}
    ends = {("final_resid", 1), ("final_resid", 2)}  # nothing is written to channel 3, nor read there
    assert flagged(graph.reached(SMALL, params, masks)) == {*nodes, *ends}
    assert flagged(graph.useful(SMALL, params, masks, ANSWERS)) == {*nodes, *ends}
    found = graph.nodes_of(SMALL, masks)
    assert found[-3:] == tuple(Node("final_resid", i) for i in (1, 2, 3))
    assert graph.embedding_entries(SMALL, params, found) == (Entry(3, 0, 1.0), Entry(3, 2, 1.0))
    answers = graph.unembedding_entries(SMALL, params, found, ANSWERS)
    assert answers == (Entry(4, 1, 3.0), Entry(5, 2, 4.0))
    # What is removed at the end leads nowhere.
    masks["final_resid"][1] = 0
    assert flagged(graph.useful(SMALL, params, masks, ANSWERS)) == {("final_resid", 2)}


def test_a_removed_node_breaks_the_path_on_both_sides():
    params, nodes = chain()
    masks = masks_of(SMALL, [nodes[0], nodes[2]])
    assert flagged(graph.reached(SMALL, params, masks)) == {nodes[0]}
    assert flagged(graph.useful(SMALL, params, masks, ANSWERS)) == {nodes[2]}
    assert graph.edges_of(SMALL, params, graph.nodes_of(SMALL, masks)) == ()


def test_a_node_without_kept_inputs_is_bias_only_but_may_be_useful():
    params, nodes = chain()
    params["h_0"]["mlp"]["c_fc"]["bias"][3] = 1.0
    params["h_0"]["mlp"]["c_proj"]["kernel"][3, 1] = 1.0
    masks = masks_of(SMALL, [*nodes, ("0.mlp.post_act", 3)])
    assert ("0.mlp.post_act", 3) not in flagged(graph.reached(SMALL, params, masks))
    assert ("0.mlp.post_act", 3) in flagged(graph.useful(SMALL, params, masks, ANSWERS))


def test_a_node_that_leads_nowhere_is_reached_but_not_useful():
    params, nodes = chain()
    params["h_0"]["mlp"]["c_fc"]["kernel"][0, 1] = 1.0
    params["h_0"]["mlp"]["c_proj"]["kernel"][1, 3] = 1.0  # channel 3 has no logit of an answer
    params["lm_head"]["kernel"][3, 0] = 1.0
    extra = [("0.mlp.post_act", 1), ("0.mlp.resid_delta", 3)]
    masks = masks_of(SMALL, [*nodes, *extra])
    assert set(extra) <= flagged(graph.reached(SMALL, params, masks))
    assert not set(extra) & flagged(graph.useful(SMALL, params, masks, ANSWERS))


@pytest.mark.parametrize("sink", [True, False])
def test_a_live_query_passes_on_through_a_constant_value_only_with_a_sink(sink):
    config = dataclasses.replace(SMALL, attention_sink=sink)
    params = blank(config)
    params["wte"]["embedding"][3, 0] = 1.0
    params["h_0"]["attn"]["c_attn"]["kernel"][0, 2] = 1.0  # q channel 2, of head 1
    params["h_0"]["attn"]["c_attn"]["bias"][2 * config.d_attn + 3] = 1.0  # v channel 3, of head 1
    params["h_0"]["attn"]["c_proj"]["kernel"][3, 1] = 1.0
    params["lm_head"]["kernel"][1, 4] = 1.0
    nodes = [("0.attn.act_in", 0), ("0.attn.q", 2), ("0.attn.v", 3), ("0.attn.resid_delta", 1)]
    masks = masks_of(config, nodes)
    reached = flagged(graph.reached(config, params, masks))
    assert ("0.attn.q", 2) in reached and ("0.attn.v", 3) not in reached
    assert (("0.attn.resid_delta", 1) in reached) == sink
    assert flagged(graph.useful(config, params, masks, ANSWERS)) == set(nodes)


@pytest.mark.parametrize("sink", [True, False])
def test_a_live_query_passes_on_through_a_removed_value_only_with_a_sink(sink):
    config = dataclasses.replace(SMALL, attention_sink=sink)
    params = blank(config)
    params["h_0"]["ln_1"]["scale"][:] = 1.0
    params["wte"]["embedding"][3, 0] = params["wte"]["embedding"][1, 3] = 1.0
    attn = params["h_0"]["attn"]
    attn["c_attn"]["kernel"][0, 2] = 1.0  # q channel 2, of head 1
    attn["c_proj"]["kernel"][3, 1] = 1.0  # from v channel 3, of head 1
    params["lm_head"]["kernel"][1, 4] = 1.0
    kept = {("0.attn.act_in", 0), ("0.attn.q", 2), ("0.attn.resid_delta", 1)}
    masks = masks_of(config, kept)
    means = {site: np.zeros(width, np.float32) for site, width in node_sites(config).items()}
    means["0.attn.k"][2], means["0.attn.v"][3] = 3.0, 1.0
    tokens = jnp.array([[3, 3], [1, 1]])
    _, records = Transformer(config).apply(
        params, tokens, tap=mix(masks, means), record=["0.attn.resid_delta"]
    )
    written = np.asarray(records["0.attn.resid_delta"])[:, 1, 1]
    assert (abs(written[0] - written[1]) > 0.1) == sink  # what the forward pass says
    reached = flagged(graph.reached(config, params, masks))
    assert (("0.attn.resid_delta", 1) in reached) == sink
    useful = flagged(graph.useful(config, params, masks, ANSWERS))
    assert (useful == kept) == sink


def test_queries_of_another_head_do_not_lead_to_a_value():
    params = blank(SMALL)
    params["wte"]["embedding"][3, 0] = 1.0
    qkv = params["h_0"]["attn"]["c_attn"]["kernel"]
    qkv[0, [0, 4 + 1, 8 + 2]] = 1.0  # q 0 and k 1, of head 0; v 2, of head 1
    params["h_0"]["attn"]["c_proj"]["kernel"][2, 1] = 1.0
    params["lm_head"]["kernel"][1, 4] = 1.0
    masks = full_masks(SMALL)
    useful = flagged(graph.useful(SMALL, params, masks, ANSWERS))
    assert {("0.attn.q", 2), ("0.attn.k", 3), ("0.attn.v", 2)} <= useful
    assert not {("0.attn.q", 0), ("0.attn.k", 1), ("0.attn.v", 3)} & useful


def test_an_earlier_write_reaches_a_later_read_of_the_same_channel():
    params = blank(TWO)
    params["wte"]["embedding"][3, 0] = 1.0
    params["h_0"]["mlp"]["c_fc"]["kernel"][0, 2] = 1.0
    params["h_0"]["mlp"]["c_proj"]["kernel"][2, 1] = 1.0
    params["h_1"]["attn"]["c_attn"]["kernel"][1, 8] = 1.0
    params["h_1"]["attn"]["c_proj"]["kernel"][0, 2] = 1.0
    params["lm_head"]["kernel"][2, 5] = 1.0
    path = [("0.mlp.act_in", 0), ("0.mlp.post_act", 2), ("0.mlp.resid_delta", 1)]
    path += [("1.attn.act_in", 1), ("1.attn.v", 0), ("1.attn.resid_delta", 2)]
    masks = masks_of(TWO, path)
    assert flagged(graph.reached(TWO, params, masks)) == set(path)
    assert flagged(graph.useful(TWO, params, masks, ANSWERS)) == set(path)
    edges = graph.edges_of(TWO, params, graph.nodes_of(TWO, masks))
    assert [edge[:2] for edge in edges] == [(0, 1), (1, 2), (3, 4), (4, 5)]  # a write to a read is wiring


def test_the_tied_unembedding_is_the_embedding():
    config = dataclasses.replace(SMALL, tied_unembed=True)
    params = blank(config)
    params["wte"]["embedding"][3, 0] = 1.0
    params["wte"]["embedding"][4, 1] = 2.0
    assert graph.unembedding(config, params).shape == (4, 6)
    params["h_0"]["mlp"]["c_fc"]["kernel"][0, 2] = 1.0
    params["h_0"]["mlp"]["c_proj"]["kernel"][2, 1] = 1.0
    nodes = [("0.mlp.act_in", 0), ("0.mlp.post_act", 2), ("0.mlp.resid_delta", 1)]
    masks = masks_of(config, nodes)
    assert flagged(graph.useful(config, params, masks, ANSWERS)) == set(nodes)
    found = graph.nodes_of(config, masks)
    assert graph.unembedding_entries(config, params, found, ANSWERS) == (Entry(4, 1, 2.0),)


def test_added_positions_make_a_channel_live():
    config = dataclasses.replace(SMALL, position="add")
    params = blank(config)
    params["wpe"]["embedding"][1, 3] = 1.0
    masks = masks_of(config, [("0.attn.act_in", 3), ("0.attn.act_in", 2)])
    assert flagged(graph.reached(config, params, masks)) == {("0.attn.act_in", 3)}


def test_concatenated_positions_are_live_and_have_no_embedding_entries():
    config = dataclasses.replace(SMALL, position="concat", d_pos=2)
    params = blank(config)
    params["h_0"]["attn"]["c_attn"]["kernel"][5, 0] = 1.0
    masks = masks_of(config, [("0.attn.act_in", 5), ("0.attn.act_in", 1), ("0.attn.q", 0)])
    assert flagged(graph.reached(config, params, masks)) == {("0.attn.act_in", 5), ("0.attn.q", 0)}
    nodes = graph.nodes_of(config, masks)
    assert [edge[:2] for edge in graph.edges_of(config, params, nodes)] == [(1, 2)]
    params["wte"]["embedding"][:] = 1.0
    assert {entry.channel for entry in graph.embedding_entries(config, params, nodes)} == {1}


def walk(start, steps):
    """All that can be reached from `start` by `steps`, {node: set of next nodes}."""
    seen, todo = set(start), list(start)
    while todo:
        for after in steps.get(todo.pop(), ()):
            if after not in seen:
                seen.add(after)
                todo.append(after)
    return seen


def steps_of(config, params, kept):
    """{node: next nodes} of the kept part of a network without sinks, written out node by node."""
    steps = {}

    def join(source, target):
        if source in kept and target in kept:
            steps.setdefault(source, set()).add(target)

    order = [f"{i}.{half}" for i in range(config.n_layer) for half in ("attn", "mlp")]
    for i in range(config.n_layer):
        attn, mlp = params[f"h_{i}"]["attn"], params[f"h_{i}"]["mlp"]
        for c in range(config.d_model):
            for j in range(config.d_attn):
                for part, name in enumerate("qkv"):
                    if attn["c_attn"]["kernel"][c, part * config.d_attn + j]:
                        join((f"{i}.attn.act_in", c), (f"{i}.attn.{name}", j))
                if attn["c_proj"]["kernel"][j, c]:
                    join((f"{i}.attn.v", j), (f"{i}.attn.resid_delta", c))
            for n in range(config.neurons):
                if mlp["c_fc"]["kernel"][c, n]:
                    join((f"{i}.mlp.act_in", c), (f"{i}.mlp.post_act", n))
                if mlp["c_proj"]["kernel"][n, c]:
                    join((f"{i}.mlp.post_act", n), (f"{i}.mlp.resid_delta", c))
    for c in range(config.d_model):
        for at, writer in enumerate(order):
            for reader in order[at + 1 :]:
                join((f"{writer}.resid_delta", c), (f"{reader}.act_in", c))
    return steps


@pytest.mark.parametrize("seed", range(4))
def test_reached_and_useful_are_what_a_walk_over_the_nodes_finds(seed):
    config = dataclasses.replace(TWO, attention_sink=False)
    params = sparse(config, seed, keep=0.15)
    rng = np.random.default_rng(seed)
    masks = {s: (rng.random(w) < 0.8).astype(np.float32) for s, w in node_sites(config).items()}
    kept = {(site, int(i)) for site, mask in masks.items() for i in np.flatnonzero(mask)}
    steps = steps_of(config, params, kept)
    embedded = {c for c in range(4) if params["wte"]["embedding"][:, c].any()}
    start = {(s, c) for s, c in kept if s.endswith("act_in") and c in embedded}
    assert flagged(graph.reached(config, params, masks)) == walk(start, steps)
    end = {
        (s, c) for s, c in kept if s.endswith("resid_delta") and params["lm_head"]["kernel"][c, ANSWERS].any()
    }
    back = {}
    for source, targets in steps.items():
        for target in targets:
            back.setdefault(target, set()).add(source)
    useful = flagged(graph.useful(config, params, masks, ANSWERS))
    assert {n for n in useful if n[0][2:] not in ("attn.q", "attn.k")} >= {
        n for n in walk(end, back) if n[0][2:] not in ("attn.q", "attn.k")
    }
    for site, index in useful:  # beyond the walk there is only what leads to a value by way of q and k
        if site.endswith(("attn.q", "attn.k")):
            head = index // config.d_head
            values = range(head * config.d_head, (head + 1) * config.d_head)
            assert any((site[:-1] + "v", v) in useful for v in values)
        elif (site, index) not in walk(end, back):
            assert any(after in useful for after in steps[site, index])


def test_an_edges_weight_is_what_the_forward_pass_makes_of_it():
    config = dataclasses.replace(SMALL, attention_sink=False, activation="relu", norm_bias=False)
    params = sparse(config, 7, keep=0.6)
    params["h_0"]["mlp"]["c_fc"]["bias"][:] = 20.0  # every neuron in its linear range
    model, tokens = Transformer(config), jnp.array([[1, 3, 2]])
    wanted = list(node_sites(config))
    _, before = model.apply(params, tokens, record=wanted)
    checked = 0
    for wire in wires(config.n_layer):
        weights = wire.weights(params)
        for source in range(len(weights)):
            push = add({wire.source: jnp.zeros(len(weights)).at[source].set(1.0)})
            _, after = model.apply(params, tokens, tap=push, record=wanted)
            change = np.asarray(after[wire.target] - before[wire.target])
            np.testing.assert_allclose(change, np.broadcast_to(weights[source], change.shape), atol=2e-5)
            checked += 1
    assert checked == 4 * 5 + 4

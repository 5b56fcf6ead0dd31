"""How what is found in compiled programs is scored, and that finished programs are not run again."""

import functools
import itertools
import json

import numpy as np
import pytest

from circuits_jax.circuits.circuit import Node
from circuits_jax.circuits.compiled import Truth, embed, load
from circuits_jax.circuits.compiled.truth import PartSet, every_part, subject_of
from circuits_jax.circuits.masks import full_masks
from circuits_jax.config import PruneConfig
from circuits_jax.runs import compiled
from circuits_jax.storage.errors import ConfigError

A, B, C, D = (Node("0.mlp.post_act", index) for index in range(4))


@functools.cache
def network():
    return embed(load("count"), seed=0)


def test_precision_is_against_the_slice_and_recall_against_the_core():
    truth = Truth(
        core=PartSet(frozenset({A, B}), frozenset({(A, B)})),
        slice=PartSet(frozenset({A, B, C}), frozenset({(A, B), (B, C)})),
    )
    found = compiled.compare(PartSet(frozenset({A, C, D}), frozenset({(B, C)})), truth)
    assert found == {"node_precision": 2 / 3, "node_recall": 0.5, "edge_precision": 1.0, "edge_recall": 0.0}
    perfect = compiled.compare(truth.core, truth)
    assert set(perfect.values()) == {1.0}
    assert set(compiled.compare(PartSet(frozenset(), frozenset()), truth).values()) == {0.0}


def test_auroc_counts_the_pairs_that_are_in_order():
    rng = np.random.default_rng(0)
    inside, outside = rng.integers(0, 5, 7).astype(float), rng.integers(0, 5, 9).astype(float)
    pairs = [(a > b) + 0.5 * (a == b) for a, b in itertools.product(inside, outside)]
    assert compiled.auroc(inside, outside) == pytest.approx(np.mean(pairs))
    assert compiled.auroc(np.ones(3), np.ones(4)) == 0.5


def test_baselines_that_need_no_scores():
    net = network()
    nodes, edges = every_part(net)
    ends = [(nodes[edge.source], nodes[edge.target]) for edge in edges]
    core = frozenset(
        node for node in nodes if node.index in set(net.asked.residual) and "act_in" in node.site
    )
    truth = Truth(PartSet(core, frozenset(ends[:2])), PartSet(core, frozenset(ends[:4])))
    rows = {row["method"]: row for row in compiled._baselines(net, truth, truth.core, seed=0)}
    everything = rows["everything"]
    assert everything["node_recall"] == everything["edge_recall"] == 1
    assert everything["node_precision"] == pytest.approx(len(core) / len(nodes))
    assert everything["node_auroc"] == everything["edge_auroc"] == 0.5
    assert 0.45 < rows["random"]["node_auroc"] < 0.55
    assert rows["every node on a path"]["node_precision"] > everything["node_precision"]
    assert {frozenset(row) for row in rows.values()} == {frozenset(everything)}


def test_weights_behind_a_constant_that_attention_gates_are_counted():
    net, subject = network(), subject_of(network())
    masks = full_masks(net.model.config, 0.0)
    assert compiled.gated_weights(net, subject, masks) == frozenset()
    (value,) = (  # what the counting head reads of the mark: 1 there and 0 elsewhere
        index
        for index in range(net.model.config.d_attn)
        if np.ptp(subject.means["0.attn.v"][:, index]) > 0
        and index // net.model.config.d_head in net.asked.heads
    )
    weights = net.model.params["h_0"]["attn"]["c_proj"]["kernel"][value]
    (written,) = np.flatnonzero(weights)
    masks["0.attn.resid_delta"][written] = 1
    assert compiled.gated_weights(net, subject, masks) == frozenset()  # attention is held too
    masks["0.attn.k"][value // net.model.config.d_head * net.model.config.d_head] = 1
    edge = (Node("0.attn.v", value), Node("0.attn.resid_delta", written))
    assert compiled.gated_weights(net, subject, masks) == frozenset({edge})
    masks["0.attn.v"][value] = 1  # a node of the circuit, whose edges are pruned like others
    assert compiled.gated_weights(net, subject, masks) == frozenset()


def test_finished_programs_are_read_and_other_settings_are_not(tmp_path, monkeypatch):
    done = []

    def fake(program, prune, bar):
        done.append(program.name)
        return {
            "row": {"program": program.name},
            "baselines": [{"program": program.name, "method": "random"}],
        }

    monkeypatch.setattr(compiled, "_compare", fake)
    names, prune = ["count", "sort"], PruneConfig()
    rows, baselines = compiled.benchmark(names, prune, tmp_path)
    assert done == names and [row["program"] for row in rows] == names and len(baselines) == 2
    assert compiled.benchmark(names, prune, tmp_path) == (rows, baselines) and done == names
    (tmp_path / "sort.json").write_text("half a fi")
    assert compiled.benchmark(names, prune, tmp_path) == (rows, baselines) and done == [*names, "sort"]
    compiled.benchmark(["count"], PruneConfig(steps=7), tmp_path)
    assert done[-1] == "count" and "key" in json.loads((tmp_path / "count.json").read_text())


def test_nodes_at_the_final_residual_stream_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"final_resid is on; .* without nodes there"):
        compiled.benchmark(["count"], PruneConfig(final_resid=True), tmp_path)

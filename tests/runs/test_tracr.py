"""What counts as found in compiled programs, and that finished programs are not run again."""

import functools
import json

import numpy as np
import pytest

from circuits_jax.circuits import graph
from circuits_jax.circuits.baselines import ScoreSettings
from circuits_jax.circuits.circuit import Node
from circuits_jax.circuits.masks import full_masks
from circuits_jax.circuits.rasp import embed, load
from circuits_jax.circuits.rasp.truth import subject_of
from circuits_jax.config import PruneConfig
from circuits_jax.runs import tracr
from circuits_jax.storage.errors import ConfigError

SETTINGS = ScoreSettings()


@functools.cache
def network():
    return embed(load("count"), seed=0)


def test_weights_behind_a_constant_that_attention_gates_are_counted():
    net, subject = network(), subject_of(network())
    masks = full_masks(net.model.config, 0.0)
    assert tracr.gated_weights(net, subject, masks) == frozenset()
    (value,) = (  # what the counting head reads of the mark: 1 there and 0 elsewhere
        index
        for index in range(net.model.config.d_attn)
        if np.ptp(subject.means["0.attn.v"][:, index]) > 0
        and index // net.model.config.d_head in net.asked.heads
    )
    weights = net.model.params["h_0"]["attn"]["c_proj"]["kernel"][value]
    (written,) = np.flatnonzero(weights)
    masks["0.attn.resid_delta"][written] = 1
    assert tracr.gated_weights(net, subject, masks) == frozenset()  # attention is held too
    masks["0.attn.k"][value // net.model.config.d_head * net.model.config.d_head] = 1
    edge = (Node("0.attn.v", value), Node("0.attn.resid_delta", written))
    assert tracr.gated_weights(net, subject, masks) == frozenset({edge})
    masks["0.attn.v"][value] = 1  # a node of the circuit, whose edges are pruned like others
    assert tracr.gated_weights(net, subject, masks) == frozenset()


def test_the_circuit_that_pruning_finds_is_of_the_network():
    net = network()
    prune = PruneConfig(steps=4, edge_steps=2, train_pairs=8, hold_select=True)
    found = tracr.prune_network(net, subject_of(net), prune, lambda *_: None)
    every = set(graph.nodes_of(net.model.config, full_masks(net.model.config)))
    assert found.nodes and found.nodes <= every
    assert all(set(edge) <= every for edge in found.edges)


def test_finished_programs_are_read_and_other_settings_are_not(tmp_path, monkeypatch):
    done = []

    def fake(program, prune, settings, bar):
        done.append(program.name)
        return {
            "row": {"program": program.name},
            "baselines": [{"program": program.name, "method": "random"}],
        }

    monkeypatch.setattr(tracr, "_compare", fake)
    names, prune = ["count", "sort"], PruneConfig()
    again = functools.partial(tracr.benchmark, names, prune, SETTINGS, tmp_path)
    rows, baselines = again()
    assert done == names and [row["program"] for row in rows] == names and len(baselines) == 2
    assert again() == (rows, baselines) and done == names
    (tmp_path / "sort.json").write_text("half a fi")
    assert again() == (rows, baselines) and done == [*names, "sort"]
    tracr.benchmark(["count"], PruneConfig(steps=7), SETTINGS, tmp_path)
    tracr.benchmark(["sort"], prune, ScoreSettings(steps=7), tmp_path)
    assert done[-2:] == ["count", "sort"] and "key" in json.loads((tmp_path / "count.json").read_text())


def test_nodes_at_the_final_residual_stream_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"final_resid is on; .* without nodes there"):
        tracr.benchmark(["count"], PruneConfig(final_resid=True), SETTINGS, tmp_path)

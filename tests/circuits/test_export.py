"""Exports are read back by other programs: csv, networkx and an XML parser."""

import csv
import dataclasses
import io
import json
import re
import xml.etree.ElementTree as ElementTree

import networkx
import numpy as np
import pytest

from circuits_jax.circuits.circuit import Calibration, Circuit, Edge, Importance, Node, load_circuit
from circuits_jax.circuits.export import (
    FORMATS,
    export,
    links,
    node_attributes,
    to_csv,
    to_graphml,
    to_json,
    to_networkx,
)
from circuits_jax.runs.exporting import export_circuits
from circuits_jax.storage import notices
from circuits_jax.storage.errors import CircuitError, ConfigError, UserError
from tests.circuits.test_circuit import VERSION_1

NODES = (
    Node("0.attn.act_in", 3),
    Node("0.attn.q", 5),  # of head 1
    Node("0.attn.k", 2),  # of head 0
    Node("0.attn.v", 6),  # of head 1
    Node("0.attn.resid_delta", 3),
    Node("0.mlp.act_in", 3),
    Node("0.mlp.post_act", 9),
    Node("0.mlp.resid_delta", 1),
    Node("1.attn.act_in", 1),
    Node("1.attn.act_in", 3),
)
EDGES = (Edge(0, 1, 0.5), Edge(0, 3, -1.25), Edge(3, 4, 2.0), Edge(5, 6, 1e-7), Edge(6, 7, -3.5))
WEIGHTS = {(str(NODES[e.source]), str(NODES[e.target])): e.weight for e in EDGES}
# Channel 3 is written by layer 0's attention and read twice later; channel 1 is written by its MLP.
WIRING = {
    ("0.attn.resid_delta.3", "0.mlp.act_in.3"),
    ("0.attn.resid_delta.3", "1.attn.act_in.3"),
    ("0.mlp.resid_delta.1", "1.attn.act_in.1"),
}
ATTENTION = {("0.attn.q.5", "0.attn.v.6")}


def circuit(importance=True):
    sites = {node.site for node in NODES} | {"0.attn.y"}
    return Circuit(
        task='quotes & "brackets" <1>',
        nodes=NODES,
        edges=EDGES,
        bias_only=tuple(node.index == 9 for node in NODES),
        means={site: np.linspace(0, 1, 16, dtype=np.float32) for site in sites},
        ablation="mean",
        embedding=(),
        unembedding=(),
        calibration=Calibration(1, 0),
        metrics={},
        model_config={"d_head": 4, "d_model": 8},
        model_hash="a" * 64,
        tokenizer_hash="b" * 64,
        provenance={},
        importance=Importance(
            node_deltas=np.arange(10, dtype=np.float32) / 8,
            edge_deltas=np.arange(5, dtype=np.float32) / 4,
            attribution={},
            exact={},
            correlation={"nodes": 0.0},
            pairs=8,
        )
        if importance
        else None,
    )


@pytest.mark.parametrize("name", ["a\x01b", "\x0bé", "x\r\ny", "\ufffe", "<&\"'>", "e\x1b[1m", "\U0001f40d"])
def test_a_graphml_file_is_xml_whatever_the_task_is_called(name):
    text = to_graphml(dataclasses.replace(circuit(), task=name))
    ElementTree.fromstring(text.encode())
    assert networkx.parse_graphml(text).graph["task"].isprintable()
    odd = dataclasses.replace(circuit(), ablation=f"mean{name}", model_hash=name)
    found = networkx.parse_graphml(to_graphml(odd)).graph
    assert found["ablation"].isprintable() and found["model_hash"].isprintable()


def test_json_holds_numbers_only():
    given = circuit()
    unknown = np.full(10, np.nan, np.float32)
    given = dataclasses.replace(
        given,
        edges=tuple(edge._replace(weight=float("nan")) for edge in EDGES),
        means={site: np.full(16, np.inf, np.float32) for site in given.means},
        importance=dataclasses.replace(given.importance, node_deltas=unknown, edge_deltas=unknown[:5]),
    )
    for form in FORMATS:
        assert not {"nan", "inf", "infinity"} & set(re.split(r"[^a-z]+", export(given, form).lower()))
    read = json.loads(to_json(given), parse_constant=pytest.fail)
    assert len(read["nodes"]) == 10 and not any("delta" in node or "mean" in node for node in read["nodes"])


def test_nodes_of_the_final_residual_stream_end_the_rails_of_their_channels():
    last = Node("final_resid", 3)
    given = circuit()
    given = dataclasses.replace(
        given,
        nodes=(*NODES, last),
        bias_only=(*given.bias_only, False),
        means={**given.means, "final_resid": np.zeros(16, np.float32)},
        importance=None,
    )
    writes = {str(node) for node in NODES if node.site.endswith("resid_delta") and node.index == 3}
    into = {link.source for link in links(given) if link.target == "final_resid.3"}
    assert writes and into == writes
    attributes = node_attributes(given)["final_resid.3"]
    assert attributes["location"] == "final_resid" and "layer" not in attributes
    read = networkx.parse_graphml(to_graphml(given))
    assert "layer" not in read.nodes["final_resid.3"] and read.nodes["1.attn.act_in.3"]["layer"] == 1


def check_graph(graph):
    """A graph as networkx reads it is the circuit."""
    assert isinstance(graph, networkx.DiGraph) and not graph.is_multigraph()
    assert set(graph.nodes) == {str(node) for node in NODES}
    for i, node in enumerate(NODES):
        values = graph.nodes[str(node)]
        assert f"{values['layer']}.{values['location']}" == node.site and values["index"] == node.index
        assert values["bias_only"] is (node.index == 9)
        assert values["delta"] == i / 8
        assert values["mean"] == pytest.approx(node.index / 15)
    found = {kind: {} for kind in ("weight", "wiring", "attention")}
    for source, target, values in graph.edges(data=True):
        found[values["kind"]][source, target] = values
    weights = {ends: values["weight"] for ends, values in found["weight"].items()}
    assert weights == pytest.approx(WEIGHTS, rel=1e-7)  # float32 in a circuit's file
    assert [values["delta"] for values in found["weight"].values()] == [0, 0.25, 0.5, 0.75, 1]
    assert set(found["wiring"]) == WIRING and set(found["attention"]) == ATTENTION
    assert not any(
        {"weight", "delta"} & set(v) for kind in ("wiring", "attention") for v in found[kind].values()
    )
    assert graph.graph["task"] == circuit().task and graph.graph["model_hash"] == "a" * 64


def test_networkx():
    check_graph(to_networkx(circuit()))


def test_graphml_is_read_by_networkx(tmp_path):
    path = tmp_path / "graph.graphml"
    path.write_text(to_graphml(circuit()))
    check_graph(networkx.read_graphml(path))


def test_graphml_declares_its_keys_before_its_graph():
    root = ElementTree.fromstring(to_graphml(circuit()))
    tags = [child.tag.rpartition("}")[2] for child in root]
    assert tags == ["key"] * (len(tags) - 1) + ["graph"]
    used = {data.get("key") for data in root.iter(f"{root.tag.removesuffix('graphml')}data")}
    assert used == {child.get("id") for child in root if child.get("id")}


def test_json_is_read_by_networkx():
    check_graph(networkx.node_link_graph(json.loads(to_json(circuit())), edges="links"))


def test_csv():
    rows = list(csv.DictReader(io.StringIO(to_csv(circuit()))))
    ends = {(row["source"], row["target"]): row for row in rows}
    assert len(rows) == len(ends) == len(EDGES) + len(WIRING) + len(ATTENTION)
    assert {e: float(r["weight"]) for e, r in ends.items() if r["kind"] == "weight"} == WEIGHTS
    assert {e for e, r in ends.items() if r["kind"] == "wiring"} == WIRING
    assert {e for e, r in ends.items() if r["kind"] == "attention"} == ATTENTION
    assert all((r["weight"] == "") == (r["kind"] != "weight") == (r["delta"] == "") for r in rows)
    assert {row["target"] for row in rows if row["target_bias_only"] == "True"} == {"0.mlp.post_act.9"}
    assert ends["0.mlp.act_in.3", "0.mlp.post_act.9"]["delta"] == "0.75"


def test_without_importance_there_are_no_deltas():
    plain = circuit(importance=False)
    graph = to_networkx(plain)
    assert not any("delta" in values for _, values in graph.nodes(data=True))
    assert not any("delta" in values for *_, values in graph.edges(data=True))
    assert all(row["delta"] == "" for row in csv.DictReader(io.StringIO(to_csv(plain))))
    assert networkx.parse_graphml(to_graphml(plain)).number_of_edges() == graph.number_of_edges()


@pytest.mark.parametrize("form", FORMATS)
def test_a_circuit_without_edges_exports(form):
    empty = dataclasses.replace(circuit(importance=False), nodes=NODES[:1], edges=(), bias_only=(True,))
    assert export(empty, form)


def test_an_unknown_format_is_refused_and_the_choices_named():
    with pytest.raises(ConfigError, match="csv, graphml, json"):
        export(circuit(), "gexf")


def test_the_experiment_writes_a_file_beside_each_circuit(tmp_path):
    for task in ("quotes", "brackets"):
        circuit().save(tmp_path / task)
    written = export_circuits(tmp_path, "all", "json")
    assert written == [tmp_path / task / "circuit_graph.json" for task in ("brackets", "quotes")]
    check_graph(networkx.node_link_graph(json.loads(written[0].read_text()), edges="links"))
    (one,) = export_circuits(tmp_path, "quotes", "csv")
    # Weights come back from the circuit's file, where they are float32.
    assert one.read_text().splitlines()[0] == to_csv(circuit()).splitlines()[0]
    assert not (tmp_path / "brackets" / "circuit_graph.csv").exists()


def test_the_experiment_says_which_circuits_there_are(tmp_path):
    with pytest.raises(CircuitError, match="prune first"):
        export_circuits(tmp_path, "all", "csv")
    circuit().save(tmp_path / "quotes")
    with pytest.raises(CircuitError, match="'brackets'.*quotes"):
        export_circuits(tmp_path, "brackets", "csv")


def test_exports_go_to_another_folder_and_damaged_circuits_are_left_out(tmp_path, capsys):
    home, circuits = tmp_path / "home", tmp_path / "circuits"
    circuit().save(circuits / "quotes")
    (circuits / "cut").mkdir()
    (circuits / "cut" / "circuit.json").write_text("{")
    before = sorted(circuits.rglob("*"))
    assert export_circuits(circuits, "all", "csv", home) == [home / "quotes" / "circuit_graph.csv"]
    assert sorted(circuits.rglob("*")) == before
    notices.tell()
    assert capsys.readouterr().err.startswith("left out cut: ")
    with pytest.raises(CircuitError, match="cut short"):
        export_circuits(circuits, "cut", "csv", home)
    (circuits / "quotes" / "circuit.json").write_text("{")
    with pytest.raises(CircuitError, match="cut short"):
        export_circuits(circuits, "all", "csv", home)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Not a directory; .* --out=DIR"):
        export_circuits(circuits, "all", "csv", tmp_path / "file" / "below")


@pytest.mark.parametrize("form", FORMATS)
def test_a_circuit_of_an_older_version_is_exported(form):
    old = load_circuit(VERSION_1)
    text = export(old, form)
    assert all(str(old.nodes[end]) in text for edge in old.edges for end in edge[:2])
    assert to_networkx(old).number_of_nodes() == len(old.nodes)

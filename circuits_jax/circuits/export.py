"""A circuit for other programs: edge list, networkx graph, GraphML, node-link JSON.

Three kinds of edges leave here: "weight" edges are the circuit's own; "wiring" is what residual channels do,
a write to channel c meeting every later read of c; "attention" joins a head's kept q and k channels to its
kept v channels, whose flow they decide.  Only the first kind is counted (docs/method.md, "Nodes and edges").
"""

import csv
import dataclasses
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from circuits_jax.circuits.circuit import Circuit, Node
from circuits_jax.config.checks import check_choice
from circuits_jax.model.sites import FINAL, order, parse
from circuits_jax.model.wiring import GATES, READS, WRITES

if TYPE_CHECKING:
    import networkx

FORMATS = ("csv", "graphml", "json")
KINDS = ("weight", "wiring", "attention")
# All but the characters of XML 1.0 that readers hand on as they are: not control characters.
_NOT_XML = re.compile("[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclasses.dataclass(frozen=True)
class Link:
    """One edge of the exported graph.

    Attributes:
      source, target: Names of nodes, such as "1.mlp.post_act.407".
      kind: Of KINDS.
      weight: Of a "weight" edge, if it is known.
      delta: Rise of the task loss when a "weight" edge is removed, in nats, if it was measured.
    """

    source: str
    target: str
    kind: str
    weight: float | None = None
    delta: float | None = None


def links(circuit: Circuit) -> Iterator[Link]:
    """All edges, the circuit's own first."""
    names = [str(node) for node in circuit.nodes]
    deltas = circuit.importance.edge_deltas.tolist() if circuit.importance else [None] * len(circuit.edges)
    for edge, delta in zip(circuit.edges, deltas, strict=True):
        yield Link(names[edge.source], names[edge.target], "weight", _known(edge.weight), _known(delta))
    for write in circuit.nodes:
        for read in circuit.nodes:
            if _is_wiring(write, read):
                yield Link(str(write), str(read), "wiring")
    if circuit.model_config.get("d_head") is None:
        return  # an older file, that does not say which channels are of one head
    d_head = int(circuit.model_config["d_head"])
    for gate in circuit.nodes:
        for value in circuit.nodes:
            if _gates(gate, value, d_head):
                yield Link(str(gate), str(value), "attention")


def node_attributes(circuit: Circuit) -> dict[str, dict[str, Any]]:
    """Of every node, by name: layer, location, index, bias_only, mean, and delta.

    What is not known or was not measured is not there; nodes of the final residual stream have no layer.
    """
    found = {}
    for i, node in enumerate(circuit.nodes):
        layer, location = (None, FINAL) if node.site == FINAL else parse(node.site)
        values = {
            "layer": layer,
            "location": location,
            "index": node.index,
            "bias_only": bool(circuit.bias_only[i]),
            "mean": _known(float(circuit.means[node.site][node.index])),
            "delta": _known(float(circuit.importance.node_deltas[i])) if circuit.importance else None,
        }
        found[str(node)] = _given(values)
    return found


def to_csv(circuit: Circuit) -> str:
    """An edge list with a header: source, target, kind, weight, delta, source and target bias_only.

    What an edge does not have is left empty; a node without edges does not appear.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    columns = [field.name for field in dataclasses.fields(Link)]
    rows.writerow([*columns, "source_bias_only", "target_bias_only"])
    constant = {name: values["bias_only"] for name, values in node_attributes(circuit).items()}
    for link in links(circuit):
        rows.writerow([*dataclasses.astuple(link), constant[link.source], constant[link.target]])
    return text.getvalue()


def to_networkx(circuit: Circuit) -> "networkx.DiGraph":
    """A directed graph whose nodes are names; attributes as in `node_attributes` and `Link`."""
    import networkx

    graph = networkx.DiGraph(task=circuit.task, model_hash=circuit.model_hash, ablation=circuit.ablation)
    graph.add_nodes_from(node_attributes(circuit).items())
    graph.add_edges_from(
        (
            link.source,
            link.target,
            _given({name: getattr(link, name) for name in ("kind", "weight", "delta")}),
        )
        for link in links(circuit)
    )
    return graph


def to_json(circuit: Circuit) -> str:
    """Node-link JSON, as `networkx.node_link_graph(..., edges="links")` and D3 read it."""
    import networkx

    data = networkx.node_link_data(to_networkx(circuit), edges="links")
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def to_graphml(circuit: Circuit) -> str:
    """GraphML, for Gephi, Cytoscape, yEd or `networkx.read_graphml`.

    What XML cannot hold of names, such as control characters, is written as Python escapes it.
    """
    import networkx

    graph = to_networkx(circuit)
    for name, text in graph.graph.items():
        graph.graph[name] = _NOT_XML.sub(lambda found: ascii(found[0])[1:-1], text)
    return "\n".join(networkx.generate_graphml(graph)) + "\n"


def export(circuit: Circuit, form: str) -> str:
    """The circuit as text in the format `form`.

    Raises:
      ConfigError: if there is no such format.
    """
    check_choice("format", form, FORMATS)
    return {"csv": to_csv, "graphml": to_graphml, "json": to_json}[form](circuit)


def _known(value: float | None) -> float | None:
    """`value`, or None where it is no number: JSON and GraphML readers know no NaN."""
    return value if value is not None and math.isfinite(value) else None


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `values` that there are."""
    return {name: value for name, value in values.items() if value is not None}


def _is_wiring(write: Node, read: Node) -> bool:
    return (
        _location(write) in WRITES
        and _location(read) in (*READS, FINAL)
        and write.index == read.index
        and order(write.site) < order(read.site)
    )


def _gates(gate: Node, value: Node, d_head: int) -> bool:
    return (
        GATES.get(_location(gate)) == _location(value)
        and order(gate.site)[0] == order(value.site)[0]
        and gate.index // d_head == value.index // d_head
    )


def _location(node: Node) -> str:
    return FINAL if node.site == FINAL else parse(node.site)[1]

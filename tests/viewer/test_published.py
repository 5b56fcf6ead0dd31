"""The page of a published circuit, whose final residual stream has nodes, as a browser draws it."""

import dataclasses

import pytest

from circuits_jax import released
from circuits_jax.circuits.circuit import Circuit, Entry
from circuits_jax.released.torch_files.write import write_torch_file
from circuits_jax.viewer.assembly import build_report
from tests.released.viz import published
from tests.viewer.conftest import Pages

# Made up: the answers are read from two of the four channels that are kept at the end.
ANSWERS = (Entry(6, 728, 2.0), Entry(7, 728, -1.8), Entry(6, 83, 0.4))


def evidence_of(circuit: Circuit) -> dict:
    """What a model would have to be run for, left out."""
    node = {
        "mean": 0, "std": 1, "min": 0, "max": 1, "active": 0.1, "scale": 1, "histogram": [0] * 24,
        "examples": {"most": [], "least": []}, "description": None, "prompts": [],
    }  # fmt: skip
    return {
        "pieces": {"6": '"', "7": "'"}, "prompts": [], "words": {},
        "nodes": [dict(node) for _ in circuit.nodes],
        "corpus": {"windows": 0, "tokens": 0, "length": 1024, "wide": False, "ids": ""},
        "curve": [], "network": None, "no_network": "it has too many weights for a page",
    }  # fmt: skip


@pytest.mark.parametrize("weights", [True, False])
def test_every_node_and_edge_is_drawn(pages: Pages, tmp_path, weights: bool):
    value = published.viz_data()
    if not weights:
        for entry in value["importances"]["pair_data_connections"]:
            entry[0] = []
    write_torch_file(tmp_path / "viz_data.pt", value)
    circuit = released.import_viz(tmp_path / "viz_data.pt", "single_double_quote").circuit
    circuit = dataclasses.replace(circuit, unembedding=ANSWERS)
    tab = pages.open(build_report("published", [(circuit, evidence_of(circuit))]))
    count = "document.querySelectorAll('.graph {}').length"
    assert tab.evaluate(count.format(".node")) == 64
    assert tab.evaluate(count.format("path.link.edge")) == 46
    assert tab.evaluate(count.format("path.link.edge.unknown")) == (0 if weights else 46)
    assert tab.evaluate(count.format("path.link.logit")) == 3
    text = tab.evaluate("document.body.innerText")
    assert "of 136,192" in text and "final stream" in text
    # A channel's end stands above all layers, and is where the answers are read.
    height = "document.querySelector('.graph [data-id=\"{}\"]').getBoundingClientRect().y"
    heights = [
        tab.evaluate(height.format(id)) for id in ("answer.6", "final_resid.728", "11.mlp.resid_delta.728")
    ]
    assert heights == sorted(heights) and len(set(heights)) == 3
    assert not tab.complaints()

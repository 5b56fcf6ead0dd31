"""Circuits of 5 to 3000 nodes: opened fast, legible at a glance, box by box where there are too many."""

import dataclasses
import functools
from pathlib import Path

import pytest

from circuits_jax import viewer
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.viewer.assembly import build_report, circuit_data, embed_json
from tests.viewer import synthetic
from tests.viewer.browser import SLOWNESS, Tab
from tests.viewer.conftest import Pages, weigh

PAGE = Path(viewer.__file__).parent / "page"
LAYOUT = (
    "format.js", "graph.js", "aggregate.js", "evidence_data.js", "bpe.js", "layout.js", "uncross.js",
    "zoom.js", "draw.js",
)  # fmt: skip
# Pairs of marks that overlap by more than half a pixel, the least width of one, how many are cut off.
LEGIBLE = """(() => {
  const marks = [...document.querySelectorAll(".graph :is(.node, .answer, .group-node) .mark")];
  const boxes = marks.map((mark) => mark.getBoundingClientRect());
  const frame = document.querySelector(".graph").getBoundingClientRect();
  const common = (a, b, from, to) => Math.min(a[to], b[to]) - Math.max(a[from], b[from]);
  const overlap = (a, b) => common(a, b, "left", "right") > 0.5 && common(a, b, "top", "bottom") > 0.5;
  const inside = (a) =>
    common(a, frame, "left", "right") > a.width - 1 && common(a, frame, "top", "bottom") > a.height - 1;
  return {
    overlapping: boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => overlap(a, b))).length,
    least: Math.min(...boxes.map((box) => box.width)), outside: boxes.filter((box) => !inside(box)).length,
  };
})()"""


@functools.cache
def large(count: int) -> Circuit:
    config = synthetic.config_of(d_model=256 if count > 500 else 128, n_layer=4, n_ctx=32)
    circuit = synthetic.make_circuit(config, synthetic.sparse_params(config, keep=1 / 16), count)
    return dataclasses.replace(circuit, importance=weigh(circuit, len(circuit.edges)))


def page_of(circuit: Circuit) -> str:
    return build_report("large", [(circuit, hollow_evidence(circuit))])


def hollow_evidence(circuit: Circuit) -> dict:
    """Evidence in form, without having run a model."""
    nothing = {
        "mean": 0, "std": 1, "min": -1, "max": 1, "active": 0.5, "scale": 1, "histogram": [1] * 24,
        "examples": {"most": [], "least": []}, "description": None, "prompts": [],
    }  # fmt: skip
    channels = sorted({entry.channel for entry in circuit.embedding})
    return {
        "pieces": {}, "prompts": [], "nodes": [nothing] * len(circuit.nodes),
        "corpus": {"tokens": 1, "length": 1, "windows": 1, "ids": "", "wide": False},
        "words": {str(c): {"count": 1, "top": [[0, 1.0]]} for c in channels},
        "curve": [], "network": None, "no_network": "it was not embedded",
    }  # fmt: skip


def opened(tab: Tab) -> list[str]:
    return tab.evaluate("[...document.querySelectorAll('.graph .vertex.node')].map((e) => e.dataset.id)")


@pytest.mark.parametrize("count", [5, 500, pytest.param(3000, marks=pytest.mark.slow)])
def test_large_circuits_open_fast_and_stay_legible(pages: Pages, count: int):
    circuit = large(count)
    page = page_of(circuit)
    tab = pages.open(page)
    milliseconds = tab.evaluate("performance.getEntriesByType('navigation')[0].domComplete")
    print(f"{count} nodes, {len(page) / 1e6:.2f} MB: interactive after {milliseconds:.0f} ms")
    assert milliseconds < (4000 if count == 3000 else 1000) * SLOWNESS
    seen = tab.evaluate(LEGIBLE)
    assert not seen["overlapping"] and not seen["outside"] and seen["least"] >= 4, seen
    groups = tab.evaluate("document.querySelectorAll('.group-node').length")
    sites = {node.site for node in circuit.nodes}
    if count == 3000:
        assert opened(tab) == [] and groups == len(sites) + bool(circuit.embedding)
    else:
        assert set(opened(tab)) == {str(node) for node in circuit.nodes} and not groups
    pages.keep(tab, f"nodes{count}")


@pytest.mark.slow
def test_a_box_opens_where_one_of_its_nodes_is_asked_for(pages: Pages):
    circuit = large(3000)
    node = next(n for n in circuit.nodes if n.site.endswith("post_act"))
    tab = pages.open(page_of(circuit), f"#node={node}")
    assert set(opened(tab)) == {str(n) for n in circuit.nodes if n.site == node.site}
    assert tab.evaluate("document.querySelector('.vertex[aria-pressed=true]').dataset.id") == str(node)
    seen = tab.evaluate(LEGIBLE)
    assert not seen["overlapping"] and seen["least"] >= 4, seen
    tab.click('[data-id="group.2.attn.v"] .mark')
    tab.click(".pane .button")  # "open on the graph"
    assert {name.rsplit(".", 1)[0] for name in opened(tab)} == {node.site, "2.attn.v"}
    pages.keep(tab, "opened")
    tab.evaluate(
        "((slider) => { slider.value = 0.1; slider.dispatchEvent(new Event('input', { bubbles: true })); })"
        "(document.querySelector('.toolbar input'))"
    )
    tab.click(".legend .button")  # "close all boxes", and nothing else
    assert opened(tab) == [] and "edges=0.1" in tab.evaluate("location.hash")


@pytest.mark.slow
def test_paths_through_closed_boxes_are_of_single_nodes(pages: Pages):
    circuit = large(3000)
    edge = next(e for e in circuit.edges if circuit.nodes[e.target].site.endswith("mlp.post_act"))
    source, target = circuit.nodes[edge.source], circuit.nodes[edge.target]
    address = f"#node={source}&to={target}&open={source.site},{target.site}"
    tab = pages.open(page_of(circuit), address)
    weight = tab.evaluate("document.querySelector('.paths li .weight').textContent").replace("\u2212", "-")
    assert float(weight) == pytest.approx(edge.weight, rel=5e-3)
    assert tab.evaluate("document.querySelector('.paths .count').textContent") == "1"
    tab.evaluate(f"location.hash = '#node={source}&to=group.0.attn.v&open={source.site}'")
    tab.wait("document.querySelector('.pane').textContent.includes('Paths run between single nodes')")


def test_exchanging_neighbours_uncrosses(pages: Pages):
    circuit = large(150)
    data = embed_json(circuit_data("c", circuit, hollow_evidence(circuit)))
    scripts = "".join((PAGE / name).read_text(encoding="utf-8") for name in LAYOUT)
    with_it, without = pages.open("").evaluate(
        f"(() => {{ {scripts} const c = {data}; const page = {{ vocabularies: {{}} }};"
        "const count = () => { const g = buildGraph(c); layOut(g); return countCrossings(g); };"
        "const first = count(); uncross = () => {}; return [first, count()]; })()"
    )
    assert with_it < 0.9 * without

"""A page's nodes and the paths between them, in a real browser (skipped where there is no Chromium)."""

import collections

import numpy as np
import pytest

from circuits_jax.circuits.circuit import Circuit
from circuits_jax.model.sites import NODE_LOCATIONS
from tests.viewer.browser import Tab
from tests.viewer.conftest import Example, Live, Pages, document
from tests.viewer.page import Element, drawn, place

HASH = "location.hash"


def lit(tab: Tab) -> set[str]:
    return set(tab.evaluate("[...document.querySelectorAll('.vertex.lit')].map((e) => e.dataset.id)"))


def above(circuit: Circuit, d_head: int) -> dict[str, set[str]]:
    """What each vertex feeds directly: by weights, residual channels, heads and unembedding."""
    nexts = collections.defaultdict(set)
    order = {(n, loc): n * 8 + i for n in range(9) for i, loc in enumerate(NODE_LOCATIONS)}
    where = {node: (int(node.site.split(".")[0]), node.site.split(".", 1)[1]) for node in circuit.nodes}
    for edge in circuit.edges:
        nexts[str(circuit.nodes[edge.source])].add(str(circuit.nodes[edge.target]))
    answers = collections.defaultdict(set)
    for entry in circuit.unembedding:
        answers[entry.channel].add(f"answer.{entry.token}")
    for node, (layer, location) in where.items():
        if location in ("attn.q", "attn.k"):
            head = node.index // d_head
            nexts[str(node)] |= {
                str(o) for o, at in where.items() if at == (layer, "attn.v") and o.index // d_head == head
            }
        if location.endswith("resid_delta"):
            nexts[str(node)] |= answers[node.index] | reads(where, node.index, order, order[layer, location])
    for entry in circuit.embedding:
        nexts[f"embedding.{entry.channel}"] |= answers[entry.channel] | reads(where, entry.channel, order, -1)
    return nexts


def reads(where: dict, channel: int, order: dict, after: int) -> set[str]:
    return {
        str(n) for n, at in where.items()
        if n.index == channel and at[1].endswith("act_in") and order[at] > after
    }  # fmt: skip


def closure(nexts: dict[str, set[str]], start: str) -> set[str]:
    seen, new = {start}, {start}
    while new:
        new = set().union(*(nexts.get(name, set()) for name in new)) - seen
        seen |= new
    return seen


def busiest(circuit: Circuit, location: str) -> str:
    ends = collections.Counter(i for edge in circuit.edges for i in (edge.source, edge.target))
    return str(circuit.nodes[next(i for i, _ in ends.most_common() if location in circuit.nodes[i].site)])


@pytest.mark.parametrize("location", ["attn.v", "mlp.post_act"])
def test_a_selected_node_lights_exactly_its_paths(
    pages: Pages, plain: Element, example: Example, location: str
):
    node = busiest(example.circuit, location)
    root = document(pages.open(example.page, f"#task=single_double_quote&node={node}"))
    nexts = above(example.circuit, d_head=example.circuit.model_config["d_head"])
    before = collections.defaultdict(set)
    for source, targets in nexts.items():
        for target in targets:
            before[target].add(source)
    found = {name for name, e in drawn(root).items() if "lit" in e.classes and ".head." not in name}
    assert found == closure(nexts, node) | closure(before, node)
    assert 2 < len(found) < len(drawn(root))
    assert [n for n, e in drawn(root).items() if e.attributes["aria-pressed"] == "true"] == [node]
    check_pane(root, example, node)
    # Opened anew, everything stands where it stood.
    assert {k: place(e) for k, e in drawn(root).items()} == {k: place(e) for k, e in drawn(plain).items()}


def check_pane(root: Element, example: Example, node: str) -> None:
    circuit = example.circuit
    number = [str(n) for n in circuit.nodes].index(node)
    (pane,) = root.all("aside", "pane")
    assert pane.all("h3")[0].words() == node
    linked = {e.attributes["href"] for e in pane.all("a", "mono")}
    for edge in circuit.edges:
        if number in (edge.source, edge.target):
            other = circuit.nodes[edge.target if edge.source == number else edge.source]
            assert f"#task=single_double_quote&node={other}" in linked
    examples = example.evidence["nodes"][number]["examples"]
    contexts = sum(len(group) for side in examples.values() for _, group in side)
    assert len(pane.all("div", "context")) == contexts > 0
    assert len([e for line in pane.all("div", "context") for e in line.all("bdi", "peak")]) == contexts
    assert len(pane.all("div", "pair")) == min(4, len(example.evidence["prompts"]))
    assert len(pane.all("div", "pair")[0].all("div", "prompt")) == 3  # A, B and their difference
    bins = pane.all("svg", "histogram")[0].all("rect", "bin")
    assert len(bins) == len(example.evidence["nodes"][number]["histogram"])


def test_paths_between_two_nodes_are_listed_with_their_products(pages: Pages, example: Example):
    """Against all paths found by walking, here."""
    circuit, nexts = example.circuit, collections.defaultdict(list)
    for edge in circuit.edges:
        nexts[str(circuit.nodes[edge.source])].append((str(circuit.nodes[edge.target]), edge.weight))
    wired = above(circuit, d_head=circuit.model_config["d_head"])
    weighted = {(s, t): w for s, outs in nexts.items() for t, w in outs}
    logits = {(entry.channel, f"answer.{entry.token}"): entry.weight for entry in circuit.unembedding}

    def walk(at: str, product: float) -> list[float]:
        if at == end:
            return [product]
        found = []
        for target in wired[at]:
            factor = weighted.get((at, target), 1.0)
            if target.startswith("answer."):
                factor = logits[int(at.rsplit(".", 1)[1]), target]
            found += walk(target, product * factor)
        return found

    end = f"answer.{circuit.unembedding[0].token}"
    start = next(
        str(node)
        for node in circuit.nodes
        if len(closure(wired, str(node))) > 5 and end in closure(wired, str(node))
    )
    products = sorted(walk(start, 1.0), key=abs, reverse=True)
    tab = pages.open(example.page, f"#node={start}")
    tab.click(f'[data-id="{end}"] .mark', shift=True)
    assert f"to={end}" in tab.evaluate(HASH)
    assert tab.evaluate("document.querySelector('.paths .count').textContent") == str(len(products))
    shown = tab.evaluate("[...document.querySelectorAll('.paths li .weight')].map((e) => e.textContent)")
    assert [number(text) for text in shown] == pytest.approx(products[: len(shown)], rel=5e-3)
    assert {start, end} <= lit(tab) <= closure(wired, start) | {v for v in lit(tab) if ".head." in v}
    pages.keep(tab, "paths")


def number(text: str) -> float:
    return float(text.replace("\u2212", "-").replace(",", ""))


def test_sliders_hide_weak_edges_and_unimportant_nodes(pages: Pages, live: Live):
    circuit = live.circuit
    tab = pages.open(live.page, "#edges=0.5&nodes=0.3")
    weights = np.abs([edge.weight for edge in circuit.edges])
    deltas = np.maximum(circuit.importance.node_deltas, 0)
    weak = {str(n) for n, d in zip(circuit.nodes, deltas, strict=True) if d < 0.3 * deltas.max()}
    assert (
        set(tab.evaluate("[...document.querySelectorAll('.vertex.weak')].map((e) => e.dataset.id)")) == weak
    )
    ends = [(str(circuit.nodes[e.source]), str(circuit.nodes[e.target])) for e in circuit.edges]
    hidden = sum(
        w < 0.5 * weights.max() or bool(weak & set(pair)) for w, pair in zip(weights, ends, strict=True)
    )
    assert tab.evaluate("document.querySelectorAll('.link.edge.weak').length") == hidden
    assert f"{len(circuit.nodes) - len(weak)} nodes" in tab.evaluate(
        "document.querySelector('.legend').textContent"
    )

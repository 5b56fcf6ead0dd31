"""What a page shows as it opens, in a real browser (skipped where no Chromium is installed)."""

import collections
import dataclasses
import re

import numpy as np
import pytest

from circuits_jax.model.sites import NODE_LOCATIONS
from circuits_jax.viewer.assembly import IndexRow, PageSettings, build_index, build_report
from tests.viewer.conftest import Example, Live, Pages, document
from tests.viewer.page import Element, drawn, place

HASH = "location.hash"


def test_every_node_and_edge_is_drawn(plain: Element, example: Example):
    circuit = example.circuit
    nodes = drawn(plain, "node")
    assert set(nodes) == {str(node) for node in circuit.nodes}
    constants = {str(n) for n, bias in zip(circuit.nodes, circuit.bias_only, strict=True) if bias}
    assert {name for name, e in nodes.items() if "bias-only" in e.classes} == constants
    edges = plain.all("path", "link", "edge")
    assert len(edges) == len(circuit.edges)
    assert sum("negative" in e.classes for e in edges) == sum(edge.weight < 0 for edge in circuit.edges)
    assert set(drawn(plain, "answer")) == {f"answer.{entry.token}" for entry in circuit.unembedding}


def test_widths_grow_with_weights(plain: Element, example: Example):
    width = {
        e.all("title")[0].words().split(":")[0]: float(e.attributes["stroke-width"])
        for e in plain.all("path", "link", "edge")
    }
    nodes = example.circuit.nodes
    size = {f"{nodes[e.source]} to {nodes[e.target]}": abs(e.weight) for e in example.circuit.edges}
    assert set(width) == set(size)
    by_size = sorted(size, key=size.get)
    assert all(width[a] <= width[b] for a, b in zip(by_size, by_size[1:], strict=False))
    assert width[by_size[0]] < width[by_size[-1]]


@pytest.mark.parametrize(
    ("provenance", "words"),
    [
        ({"met_target": True}, "That these nodes solve the task does not show"),
        ({"met_target": False, "prune": {"target": 0.15}}, "meets the target, a loss of 0.150; that of"),
        ({"met_target": False, "given_up": True}, "Its search was given up there: the masks had learnt"),
        ({}, "Even if these nodes solve the task, that does not show"),
        ({"met_target": True, "mediocre_model": True}, "The model itself misses the target, by a loss of"),
    ],
    ids=["met", "missed", "given-up", "unknown", "mediocre"],
)
def test_what_was_not_shown_or_measured_is_not_said(
    pages: Pages, example: Example, provenance: dict, words: str
):
    circuit = dataclasses.replace(example.circuit, provenance=provenance)
    assert circuit.importance is None
    tab = pages.open(build_report("t", [(circuit, example.evidence)]))
    root = document(tab)
    (band,) = root.all("p", "band")
    assert words in band.words() and ("solve the task" in band.words())
    colours = root.all("option")
    assert [option.words() for option in colours][:2] == ["none", "value on prompt"]
    assert "importance was not measured" in root.all("p", "legend")[0].words()
    pages.keep(tab, f"not-measured-{'-'.join(provenance)}")
    row = IndexRow("t", circuit, "not audited", "page.html")
    table = document(pages.open(build_index("i", [row]))).all("tbody")[0].words()
    assert ("misses the target" in table) == (provenance.get("met_target") is False)


@pytest.mark.parametrize(("verdict", "met"), [("faithful", False), ("not shown", False), ("faithful", True)])
def test_an_audited_circuit_that_misses_its_own_target_says_so(
    pages: Pages, example: Example, verdict: str, met: bool
):
    metrics = {**example.circuit.metrics, "select/calibrated_loss": 0.776}
    circuit = dataclasses.replace(example.circuit, provenance={"met_target": met}, metrics=metrics)
    audit = {"verdict": {"verdict": verdict, "failed": [], "close": [], "criteria": []}, "controls": None}
    settings = PageSettings(audits={circuit.task: audit})
    page = build_report("t", [(circuit, example.evidence)], settings=settings)
    (band,) = document(pages.open(page)).all("p", "band")
    assert verdict in band.words().lower()
    assert ("pairs that pruning chose by it misses the target, with 0.776" in band.words()) == (not met)


def test_layout_is_layered_and_nothing_overlaps(plain: Element, example: Example):
    rows, channels = collections.defaultdict(list), collections.defaultdict(set)
    spots = {node: place(drawn(plain)[str(node)]) for node in example.circuit.nodes}
    for node, (x, y) in spots.items():
        rows[y].append((x, node))
        if node.site.endswith(("act_in", "resid_delta")):
            channels[node.index].add(x)
    assert all(len(xs) == 1 for xs in channels.values())  # a rail is straight
    for row in rows.values():
        assert len({node.site for _, node in row}) == 1
        xs = sorted(x for x, _ in row)
        assert all(b - a >= 12 for a, b in zip(xs, xs[1:], strict=False))
    heights = {node.site: y for node, (_, y) in spots.items()}
    upward = sorted(heights, key=lambda site: (int(site[0]), NODE_LOCATIONS.index(site[2:])))
    assert sorted(heights, key=heights.get, reverse=True) == upward


def test_tables_summary_and_curve_are_shown(plain: Element, example: Example):
    text = plain.words()
    for words in (
        "test pairs", "calibrated loss", "full model", "0.139", "a <b>bold</b> corpus", "while_true",
        "Not audited",
    ):  # fmt: skip
        assert words in text
    (chart,) = plain.all("svg", "chart")
    assert {"loss (nats)", "L0 (log)", "step"} <= {e.words() for e in chart.all("text")}
    assert len(chart.all("polyline", "curve")) == 3
    assert all("<" not in e.words() for e in plain.all("b"))
    tabs = [e.attributes["href"] for e in plain.all("nav")[0].all("a")]
    assert tabs[:2] == ["#task=single_double_quote", "#task=bare"]


def test_hostile_tokens_are_only_text(pages: Pages, example: Example):
    pieces = example.evidence["pieces"]
    hostile = {
        int(t) for t, piece in pieces.items() if piece in ("</script>", "<img src=x onerror=alert(1)>")
    }
    assert len(hostile) == 2
    tab = pages.open(example.page)
    shown: set[str] = set()
    for number, node in enumerate(example.evidence["nodes"]):
        if node["examples"]["most"] and not shown & {"</script>", "<img src=x onerror=alert(1)>"}:
            tab.evaluate(f"location.hash = '#node={example.circuit.nodes[number]}'")
            tab.wait(f"document.querySelector('.pane h3')?.textContent === '{example.circuit.nodes[number]}'")
            shown = {e.words() for e in document(tab).all("bdi", "token")}
    assert shown & {"</script>", "<img src=x onerror=alert(1)>"}
    root = document(tab)
    assert not root.all("img") and len(root.all("script")) == 2


def test_keyboard_has_one_stop_and_names(plain: Element):
    stops = [e.attributes["tabindex"] for e in drawn(plain).values()]
    assert stops.count("0") == 1 and set(stops) == {"0", "-1"}
    assert all(e.attributes["aria-label"] and e.attributes["role"] == "button" for e in drawn(plain).values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "address", ["#task=bare", "#task=nosuch&node=__proto__&set=a%3Db,%3D&at=x&view=1,2&text=%00"]
)
def test_empty_circuits_and_strange_addresses_open(pages: Pages, example: Example, address: str):
    root = document(pages.open(example.page, address))
    expected = "bare" if address == "#task=bare" else "single_double_quote"
    assert root.all("h2")[0].words() == expected
    if expected == "bare":
        assert "This circuit has no nodes" in root.words() and not drawn(root)


def test_importance_colours_nodes(pages: Pages, live: Live):
    tab = pages.open(live.page)
    root = document(tab)
    assert root.all("option")[0].words() == "importance"
    assert "not measured" not in root.all("p", "legend")[0].words()
    deltas = live.circuit.importance.node_deltas
    marks = tab.evaluate(
        "Object.fromEntries([...document.querySelectorAll('.graph .vertex.node')].map((e) => [e.dataset.id,"
        "((m) => [m.style.getPropertyValue('--tone'), m.classList.contains('helps')])"
        "(e.querySelector('.mark'))]))"
    )
    tones = [float(marks[str(node)][0]) for node in live.circuit.nodes]
    order = np.argsort(np.maximum(deltas, 0), kind="stable")
    assert all(tones[a] <= tones[b] for a, b in zip(order, order[1:], strict=False)) and max(tones) == 1
    assert [marks[str(n)][1] for n in live.circuit.nodes] == [d < 0 for d in deltas.tolist()]


def test_how_it_was_pruned_is_drawn(pages: Pages, live: Live, example: Example):
    tab = pages.open(live.page)
    curve = "document.querySelector('.evidence svg[aria-label^=Pruning]')"
    assert tab.evaluate(f"{curve}.getAttribute('aria-label')") == (
        "Pruning curve; task loss ends at 0.200; nodes ends at 40"
    )
    assert tab.evaluate(f"{curve}.querySelectorAll('.curve').length") == 2
    assert "history" not in tab.evaluate("document.querySelector('.provenance').textContent")
    assert pages.open(example.page).evaluate(f"{curve} === null")  # a file of before it was recorded


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [
    ("light", {}), ("dark", {"dark": True}), ("phone", {"width": 390, "height": 844, "phone": True}),
])  # fmt: skip
def test_nothing_is_wider_than_the_window(pages: Pages, live: Live, name: str, options: dict):
    tab = pages.open(live.page, f"#node={live.circuit.nodes[2]}", **options)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor") < "rgb(1"
    before = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    channel = int(re.search(r"\d+", before)[0])
    assert (channel < 100) == bool(options.get("dark")) and dark is not None
    pages.keep(tab, name)
    tab.evaluate("document.querySelector('.theme').click()")
    after = int(re.search(r"\d+", tab.evaluate("getComputedStyle(document.body).backgroundColor"))[0])
    assert (after < 100) != bool(options.get("dark")) and "theme=" in tab.evaluate(HASH)


@pytest.mark.slow
def test_it_prints_as_pdf(pages: Pages, live: Live):
    tab = pages.open(live.page)
    pdf = tab.page.pdf(print_background=True)
    assert pdf.startswith(b"%PDF") and len(pdf) > 10_000


@pytest.mark.slow
def test_paper_shows_the_whole_graph(pages: Pages, live: Live):
    """On paper half as wide as the window; what the window does with the pane and its tools is gone."""
    tab = pages.open(live.page, f"#node={live.circuit.nodes[0]}")
    tab.wait("document.querySelector('.graph').hasAttribute('viewBox')")
    tab.page.emulate_media(media="print")
    tab.page.set_viewport_size({"width": 750, "height": 1000})
    boxes = tab.evaluate(
        "['.graph', '.camera'].map((name) => (({ left, right }) => [left, right])"
        "(document.querySelector(name).getBoundingClientRect()))"
    )
    assert tab.evaluate("getComputedStyle(document.querySelector('.toolbar')).display") == "none"
    assert tab.evaluate("getComputedStyle(document.querySelector('.pane')).position") == "static"
    marks = tab.evaluate(
        "[...document.querySelectorAll('.graph .mark')].map((m) => m.getBoundingClientRect().right)"
    )
    assert max(marks) <= boxes[0][1] <= 750
    pages.keep(tab, "print", whole=True)


@pytest.mark.slow
def test_the_whole_page_at_a_glance(pages: Pages, example: Example, live: Live):
    tab = pages.open(live.page)
    tab.wait("document.querySelector('.agreement').dataset.worst")
    frame, legend = (
        tab.evaluate(f"document.querySelector('{name}').getBoundingClientRect().bottom")
        for name in (".graph", ".legend")
    )
    assert frame < legend <= 1200  # all of the graph is in the window as it opens
    pages.keep(tab, "whole", whole=True)
    head = next(n for n in live.circuit.nodes if n.site.endswith("attn.q"))
    size = live.model.config.d_head
    tab.evaluate(f"location.hash = '#node={head.site[0]}.attn.head.{head.index // size}'")
    tab.wait("document.querySelector('.pattern .cell') !== null")
    pages.keep(tab, "attention")


@pytest.mark.slow
def test_opening_shifts_nothing(pages: Pages, live: Live):
    tab = pages.open(live.page)
    tab.wait("document.querySelector('.agreement').dataset.worst")
    shift = tab.evaluate(
        "new Promise((done) => { let sum = 0;"
        "new PerformanceObserver((list) => { for (const e of list.getEntries()) sum += e.value; })"
        ".observe({ type: 'layout-shift', buffered: true }); setTimeout(() => done(sum), 300); })"
    )
    assert shift < 0.02

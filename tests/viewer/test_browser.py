"""The page in a real browser (skipped where no Chromium is installed)."""

import collections
import dataclasses
import html
import json
import re
from pathlib import Path

import numpy as np
import pytest

from circuits_jax.circuits.circuit import Circuit
from circuits_jax.model.sites import NODE_LOCATIONS
from circuits_jax.viewer.assembly import IndexRow, PageSettings, RunFigures, build_index, build_report
from circuits_jax.viewer.circuit_page.annotations import read_annotations
from tests.viewer.browser import Tab
from tests.viewer.conftest import SUMMARY, TITLE, Example, Live, Pages, document
from tests.viewer.page import Element

HASH = "location.hash"


@pytest.fixture(scope="module")
def plain(browser, tmp_path_factory: pytest.TempPathFactory, example: Example) -> Element:
    """The example's page as it opens."""
    pages = Pages(browser, tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("shots"))
    tab = pages.open(example.page)
    tab.wait("document.querySelector('.agreement').dataset.worst")
    found = document(tab)
    pages.close()
    return found


def selected(tab: Tab) -> list[str]:
    return tab.evaluate(
        "[...document.querySelectorAll('.vertex[aria-pressed=true]')].map((e) => e.dataset.id)"
    )


def lit(tab: Tab) -> set[str]:
    return set(tab.evaluate("[...document.querySelectorAll('.vertex.lit')].map((e) => e.dataset.id)"))


def drawn(root: Element, kind: str = "vertex") -> dict[str, Element]:
    return {e.attributes["data-id"]: e for e in root.all("g", "vertex", kind) if "data-id" in e.attributes}


def place(element: Element) -> tuple[float, float]:
    x, y = re.fullmatch(r"translate\(([\d.]+) ([\d.]+)\)", element.attributes["transform"]).groups()
    return float(x), float(y)


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
        ({}, "Even if these nodes solve the task, that does not show"),
    ],
    ids=["met", "missed", "unknown"],
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


def test_clicks_and_keys_select_and_the_back_button_goes_back(pages: Pages, example: Example):
    tab = pages.open(example.page)
    first, second = (str(example.circuit.nodes[i]) for i in (0, -1))
    tab.click(f'[data-id="{first}"] .mark')
    assert selected(tab) == [first] and f"node={first}" in tab.evaluate(HASH)
    tab.click(f'[data-id="{second}"] .mark')
    assert selected(tab) == [second]
    tab.evaluate("history.back()")
    tab.wait(f"document.querySelector('.vertex[aria-pressed=true]')?.dataset.id === '{first}'")
    tab.key("Escape")
    assert selected(tab) == [] and "node=" not in tab.evaluate(HASH)
    tab.evaluate("document.querySelector('.vertex[tabindex=\"0\"]').focus()")
    start = tab.evaluate("document.activeElement.dataset.id")
    tab.key("ArrowUp")
    moved = tab.evaluate("document.activeElement.dataset.id")
    assert moved != start
    tab.key("Enter")
    assert selected(tab) == [moved]


def test_search_finds_nodes_and_answers(pages: Pages, example: Example):
    tab = pages.open(example.page)
    node = str(example.circuit.nodes[5])
    tab.key("/")
    assert (
        tab.evaluate("document.activeElement.id") == "search"
        and tab.evaluate("document.activeElement.value") == ""
    )
    tab.type(node)
    found = tab.evaluate("[...document.querySelectorAll('#found .mono')].map((e) => e.textContent)")
    assert found[0] == node
    tab.key("Enter")
    assert selected(tab) == [node]
    tab.key("/")
    tab.type("no such thing at all")
    assert "nothing found" in tab.evaluate("document.querySelector('#found').textContent")


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


def test_zoom_pan_and_fit_are_in_the_address(pages: Pages, example: Example):
    tab = pages.open(example.page)
    camera = "document.querySelector('.camera').getAttribute('transform')"
    fitted = tab.evaluate(camera)
    tab.key("+")
    assert tab.evaluate(camera) != fitted
    tab.wait("location.hash.includes('view=')")
    x, y = tab.place(".graph")
    zoomed = tab.evaluate(camera)
    tab.drag((x + 40, y + 3), (x + 140, y + 63))
    moved = tab.evaluate(camera)
    shift = [
        np.subtract(*(list(map(float, re.findall(r"-?[\d.]+", text)[:2])) for text in pair))
        for pair in [(moved, zoomed)]
    ]
    assert shift[0] == pytest.approx([100, 60], abs=2) and selected(tab) == []
    tab.wait(f"location.hash.includes('view=') && {camera} === {json.dumps(moved)}")
    tab.wait("new Promise((done) => setTimeout(() => done(true), 200))")
    again = pages.open(example.page, tab.evaluate(HASH))
    values = [list(map(float, re.findall(r"-?[\d.]+", each.evaluate(camera)))) for each in (tab, again)]
    assert values[1] == pytest.approx(values[0], rel=1e-2, abs=1)
    tab.key("0")
    assert tab.evaluate(camera) == fitted and "view=" not in tab.evaluate(HASH)


def test_typing_changes_the_answer_and_a_link_reopens_it(pages: Pages, live: Live):
    tab = pages.open(live.page)
    share = "document.querySelector('.answer-bar b').textContent"
    tab.evaluate("document.querySelector('.bench textarea').select()")
    tab.type("x = [1, '<b>")
    tab.wait("location.hash.includes('text=')")
    assert tab.evaluate("document.activeElement.tagName") == "TEXTAREA"
    node = str(live.circuit.nodes[0])
    again = pages.open(live.page, tab.evaluate(HASH) + f"&node={node}")
    assert again.evaluate("document.querySelector('.bench textarea').value") == "x = [1, '<b>"
    assert again.evaluate(share) == tab.evaluate(share)
    slider = "document.querySelector('.hold')"
    again.evaluate(
        f"{slider}.value = {slider}.max; {slider}.focus();"
        f"{slider}.dispatchEvent(new Event('input', {{bubbles: true}}))"
    )
    assert f"set={node}" in again.evaluate("decodeURIComponent(location.hash)")
    assert again.evaluate(f"document.activeElement === {slider}")  # it can be dragged on
    assert node in again.evaluate("document.querySelector('.held').textContent")
    pages.keep(again, "bench")


def test_notes_survive_a_round_trip_through_their_file(pages: Pages, example: Example, tmp_path: Path):
    node, note = str(example.circuit.nodes[3]), "</script><b>& \u202e quote"
    tab = pages.open(example.page, f"#node={node}")
    catch_saved(tab)
    tab.click(".note-editor input")
    tab.type(note)
    assert note[:10] in tab.evaluate(
        f"document.querySelector('[data-id=\"{node}\"]').getAttribute('aria-label')"
    )
    tab.click(".save-notes")
    saved = tab.evaluate("window.saved")
    assert json.loads(saved)["circuits"] == {"single_double_quote": {node: note}}
    path = tmp_path / "annotations.json"
    path.write_text(saved)
    page = build_report(
        TITLE,
        [(example.circuit, example.evidence)],
        settings=PageSettings(annotations=read_annotations(path)),
    )
    root = document(pages.open(page, f"#node={node}"))
    assert not root.all("b", "quote") and len(root.all("script")) == 2
    (label,) = root.all("g", "name", "given")
    assert label.words().startswith("</script>")
    second = str(example.circuit.nodes[4])
    other = pages.open(example.page, f"#node={second}")  # loaded by hand, beside what was noted before
    other.click(".note-editor input")
    other.type("mine")
    load_file(other, "input[type=file]", path)
    given = "[...document.querySelectorAll('.name.given')].map((e) => e.textContent)"
    other.wait(f"{given}.length === 2")
    shown = other.evaluate(given)
    assert shown[0].startswith("</script>") and shown[1] == "mine"
    said = "document.querySelector('.notes-buttons [role=status]').textContent"
    other.wait(f"{said} === '1 note loaded'")
    path.write_text(saved.replace(node, "9.attn.q.1"))
    load_file(other, "input[type=file]", path)
    other.wait(f"{said} === 'no note is of a node here'")
    path.write_text("{}")
    load_file(other, "input[type=file]", path)
    other.wait(
        "document.querySelector('.notes-buttons [role=status]').textContent.includes('annotations.json')"
    )


def catch_saved(tab: Tab) -> None:
    """Lets `window.saved` become the text of the next file that the page saves."""
    tab.evaluate(
        "window.saved = new Promise((done) => { const make = URL.createObjectURL;"
        "URL.createObjectURL = (blob) => { blob.text().then(done); return make(blob); }; }); 0"
    )


def load_file(tab: Tab, selector: str, path: Path) -> None:
    tab.page.set_input_files(selector, path)


def test_the_picture_stands_alone(pages: Pages, example: Example, browser, tmp_path: Path):
    tab = pages.open(example.page)
    catch_saved(tab)
    tab.evaluate("[...document.querySelectorAll('.export-buttons button')].at(-1).click()")
    svg = tab.evaluate("window.saved")
    assert svg.startswith("<svg") and "var(--" not in svg and svg.count("<circle") > 5
    (tmp_path / "picture.svg").write_text(svg)
    alone = browser.open(f"file://{tmp_path}/picture.svg", width=900, height=700)
    assert alone.evaluate("document.documentElement.tagName") == "svg"
    pages.keep(alone, "picture")
    alone.close()


def test_two_circuits_side_by_side(pages: Pages, example: Example):
    less = dataclasses.replace(
        example.circuit, nodes=example.circuit.nodes[5:], bias_only=example.circuit.bias_only[5:],
        edges=tuple(
            e._replace(source=e.source - 5, target=e.target - 5)
            for e in example.circuit.edges
            if min(e[:2]) >= 5
        ),
    )  # fmt: skip
    fewer = {**example.evidence, "nodes": example.evidence["nodes"][5:]}
    page = build_report(
        "t", [(example.circuit, example.evidence), (less, fewer)], settings=PageSettings(keys=["one", "two"])
    )
    tab = pages.open(page, "#task=one&with=two")
    panels = [
        {e.attributes["data-id"]: e for e in svg.all("g", "node")}
        for svg in document(tab).all("svg", "graph")
    ]
    assert set(panels[0]) - set(panels[1]) == {str(node) for node in example.circuit.nodes[:5]}
    assert all(place(panels[0][name]) == place(panels[1][name]) for name in panels[1])
    alone = {name for name, e in panels[0].items() if "alone" in e.classes}
    assert alone == {str(node) for node in example.circuit.nodes[:5]}
    assert "35 (88% of all)" in tab.evaluate("document.querySelector('.compare table').textContent")
    pages.keep(tab, "compare")


def test_an_index_sorts_and_filters(pages: Pages, example: Example):
    names = {"zebra": 0.3, "apple": 0.1, "mango": 0.2}
    rows = [
        IndexRow(
            name,
            dataclasses.replace(example.circuit, metrics={"test/calibrated_loss": loss}),
            verdict,
            f"{name}.html",
        )
        for (name, loss), verdict in zip(names.items(), ("faithful", "not shown", "faithful"), strict=True)
    ]
    index = build_index("Index", rows, [("quince", "knows <nothing>")], RunFigures(summary=SUMMARY))
    tab = pages.open(index)
    tasks = "[...document.querySelectorAll('tbody tr')].map((r) => r.children[1].firstChild.textContent)"
    assert tab.evaluate(tasks) == ["apple", "mango", "zebra", "quince"]  # what was refused comes last
    tab.evaluate(
        "[...document.querySelectorAll('th button')].find((b) => b.textContent.startsWith('loss')).click()"
    )
    assert tab.evaluate(tasks) == ["apple", "mango", "zebra", "quince"]
    tab.evaluate(
        "[...document.querySelectorAll('th button')].find((b) => b.textContent.startsWith('loss')).click()"
    )
    assert tab.evaluate(tasks) == ["zebra", "mango", "apple", "quince"]
    assert tab.evaluate("document.querySelectorAll('svg.thumbnail circle').length") > 60
    assert tab.evaluate("document.querySelector('tbody a[href=\"zebra.html\"]') !== null")
    tab.key("/")
    tab.type("faith")
    assert tab.evaluate(tasks) == ["zebra", "mango"]
    tab.wait("location.hash.includes('filter=faith')")
    again = pages.open(index, tab.evaluate(HASH))  # a link reopens it as it was left
    assert again.evaluate(tasks) == ["zebra", "mango"]
    pages.keep(tab, "index")


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
def test_it_works_inside_another_page(pages: Pages, example: Example):
    """As in a notebook's cell: no address of its own to change."""
    inside = html.escape(example.page, quote=True)
    tab = pages.open(f'<!DOCTYPE html><iframe srcdoc="{inside}" width=1200 height=900></iframe>')
    frame = "document.querySelector('iframe').contentDocument"
    node = str(example.circuit.nodes[0])
    tab.wait(f"{frame}.querySelector('[data-id=\"{node}\"]') !== null")
    tab.evaluate(
        f"{frame}.querySelector('[data-id=\"{node}\"] .mark')"
        ".dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    assert tab.evaluate(f"{frame}.querySelector('.pane h3').textContent") == node
    tab.evaluate(f"{frame}.querySelector('.pane .close').click()")
    assert tab.evaluate(f"{frame}.querySelector('.pane h3')") is None


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

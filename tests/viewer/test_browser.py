"""The page in a real browser (skipped where no Chromium is installed)."""

import collections
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from circuits_jax.circuits.circuit import Circuit
from circuits_jax.model.sites import NODE_LOCATIONS
from tests.viewer.conftest import Example
from tests.viewer.page import Element, parse

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium or google-chrome on PATH; install one to test the page in a browser"
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1500,1200",
    "--enable-logging=stderr",
)


class Browser:
    """Opens the page at an address and returns the document after its scripts ran."""

    def __init__(self, folder: Path, page: str):
        self._folder = folder
        (folder / "report.html").write_text(page, encoding="utf-8")

    def open(self, address: str = "") -> Element:
        url = f"file://{self._folder}/report.html{address}"
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={self._folder}/profile", "--dump-dom", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert "CONSOLE" not in done.stderr, done.stderr  # an error, a warning or a refused request
        return parse(done.stdout)


@pytest.fixture(scope="module")
def browser(tmp_path_factory, example: Example) -> Browser:
    return Browser(tmp_path_factory.mktemp("page"), example.page)


@pytest.fixture(scope="module")
def plain(browser: Browser) -> Element:
    return browser.open()


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
        "held-out pairs",
        "calibrated loss",
        "full model",
        "0.139",
        "a <b>bold</b> corpus",
        "while_true",
    ):
        assert words in text
    (chart,) = plain.all("svg", "chart")
    assert {"loss (nats)", "L0 (log)", "step"} <= {e.words() for e in chart.all("text")}
    assert len(chart.all("polyline", "curve")) == 3
    assert not plain.all("b") or all("<" not in e.words() for e in plain.all("b"))
    tabs = [e.attributes["href"] for e in plain.all("nav")[0].all("a")]
    assert tabs == ["#task=single_double_quote", "#task=bare"]


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
    browser: Browser, plain: Element, example: Example, location: str
):
    node = busiest(example.circuit, location)
    root = browser.open(f"#task=single_double_quote&node={node}")
    nexts = above(example.circuit, d_head=example.circuit.model_config["d_head"])
    before = collections.defaultdict(set)
    for source, targets in nexts.items():
        for target in targets:
            before[target].add(source)
    lit = {name for name, e in drawn(root).items() if "lit" in e.classes}
    assert lit == closure(nexts, node) | closure(before, node)
    assert 2 < len(lit) < len(drawn(root))
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
    contexts = example.evidence["nodes"][number]["contexts"]
    assert len(pane.all("div", "context")) == len(contexts["positive"]) + len(contexts["negative"])
    assert len(pane.all("bdi", "peak")) == len(pane.all("div", "context")) > 0
    assert len(pane.all("div", "prompt")) == 2 * len(example.evidence["prompts"])
    evidence = example.evidence["nodes"][number]
    on_prompts = [abs(value) for pair in evidence["prompts"] for side in pair for value in side]
    largest = max(-evidence["min"], evidence["max"], *on_prompts)
    heats = [float(e.attributes["style"].split(":")[1]) for e in pane.all("bdi", "peak")]
    peaks = [c["values"][c["peak"]] for c in contexts["positive"] + contexts["negative"]]
    assert heats == pytest.approx([max(0.06, abs(peak) / largest) for peak in peaks], abs=1e-3)


def test_hostile_tokens_are_only_text(browser: Browser, example: Example):
    pieces = example.evidence["pieces"]
    hostile = {t for t, piece in pieces.items() if piece in ("</script>", "<img src=x onerror=alert(1)>")}
    number = next(
        i for i, node in enumerate(example.evidence["nodes"])
        if any(str(t) in hostile for c in node["contexts"]["positive"] for t in c["tokens"])
    )  # fmt: skip
    root = browser.open(f"#task=single_double_quote&node={example.circuit.nodes[number]}")
    shown = {e.words() for e in root.all("bdi", "token")}
    assert shown & {"</script>", "<img src=x onerror=alert(1)>"}
    assert not root.all("img") and len(root.all("script")) == 2


def test_keyboard_has_one_stop_and_names(plain: Element):
    stops = [e.attributes["tabindex"] for e in drawn(plain).values()]
    assert stops.count("0") == 1 and set(stops) == {"0", "-1"}
    assert all(e.attributes["aria-label"] and e.attributes["role"] == "button" for e in drawn(plain).values())


@pytest.mark.parametrize("address", ["#task=bare", "#task=nosuch&node=__proto__"])
def test_empty_circuits_and_strange_addresses_open(browser: Browser, address: str):
    root = browser.open(address)
    expected = "bare" if address == "#task=bare" else "single_double_quote"
    assert root.all("h2")[0].words() == expected
    if expected == "bare":
        assert "This circuit has no nodes" in root.words() and not drawn(root)

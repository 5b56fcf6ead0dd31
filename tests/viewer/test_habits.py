"""What people expect of any page: names for everything, keys, touch, pictures, contrast, addresses."""

import base64
import dataclasses
import importlib.resources
import itertools
import json
import re
import struct

import pytest

from circuits_jax.circuits.circuit import Entry
from circuits_jax.viewer.assembly import PageSettings, build_report
from tests.viewer.conftest import Example, Live, Pages
from tests.viewer.test_assembly import data_of

NAMED_ROLES = {
    "button", "link", "textbox", "searchbox", "combobox", "slider", "checkbox", "img", "image", "region",
}  # fmt: skip
SCALE = "Number(/scale\\(([\\d.]+)/.exec(document.querySelector('.camera').getAttribute('transform'))[1])"


def test_everything_that_can_be_used_has_a_name(pages: Pages, live: Live):
    node = next(n for n in live.circuit.nodes if n.site.endswith("attn.v"))
    tab = pages.open(live.page, f"#node={node}&text=x%0A%20%20%20")  # a token may be blank
    tab.call("Accessibility.enable")
    tree = [n for n in tab.call("Accessibility.getFullAXTree")["nodes"] if not n["ignored"]]
    named = [n for n in tree if n["role"]["value"] in NAMED_ROLES]
    assert len(named) > len(live.circuit.nodes)
    nameless = [n for n in named if not n.get("name", {}).get("value", "").strip()]
    assert not nameless
    spoken = {n["name"]["value"] for n in named if n["role"]["value"] == "button"}
    for node in live.circuit.nodes:
        assert any(name.startswith(f"{node}, ") for name in spoken)


@pytest.mark.parametrize("address", ["", "#nodes=0.5"])
def test_the_arrow_keys_reach_every_vertex_that_is_shown(pages: Pages, example: Example, address: str):
    tab = pages.open(example.page, address)
    assert (tab.evaluate("document.querySelectorAll('.vertex.weak').length") > 5) == bool(address)
    reached = tab.evaluate("""(() => {
      const here = () => document.activeElement.dataset.id, seen = new Set();
      const press = (key) => {
        const before = here();
        document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
        seen.add(here());
        return here() !== before;
      };
      document.querySelector('.vertex[tabindex="0"]').focus();
      while (press("ArrowDown"));
      do {
        while (press("ArrowLeft"));
        while (press("ArrowRight"));
      } while (press("ArrowUp"));
      return [...seen];
    })()""")
    everything = tab.evaluate(
        "[...document.querySelectorAll('.graph .vertex:not(.weak)')].map((e) => e.dataset.id)"
    )
    assert set(reached) == set(everything) and len(everything) > (
        5 if address else len(example.circuit.nodes)
    )


def test_pointing_at_a_node_tells_its_name(pages: Pages, live: Live):
    tab = pages.open(live.page)
    node = str(live.circuit.nodes[3])
    x, y = tab.place(f'[data-id="{node}"] .mark')
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    tab.wait("!document.getElementById('tip').hidden")
    tip = tab.evaluate("document.getElementById('tip').textContent")
    assert node in tip and "without it" in tip


@pytest.mark.slow
def test_two_fingers_zoom(pages: Pages, example: Example):
    tab = pages.open(example.page, width=390, height=844, phone=True)
    tab.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
    x, y = tab.place(".graph")
    before = tab.evaluate(SCALE)
    for kind, reach in [
        ("touchStart", 20),
        *(("touchMove", r) for r in range(25, 61, 5)),
        ("touchEnd", None),
    ]:
        points = (
            [] if reach is None else [{"x": x + s * reach, "y": y, "id": i} for i, s in enumerate((-1, 1))]
        )
        tab.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    tab.wait(f"{SCALE} > {2.7 * before}")
    assert tab.evaluate(SCALE) == pytest.approx(3 * before, rel=0.1)
    tab.wait("location.hash.includes('view=')")


@pytest.mark.slow
def test_a_picture_is_saved_as_png(pages: Pages, example: Example):
    notes = {"single_double_quote": {str(example.circuit.nodes[0]): "a" * 22 + "😀😀 \x01\uffff"}}  # no XML
    tab = pages.open(
        build_report("t", [(example.circuit, example.evidence)], settings=PageSettings(annotations=notes))
    )
    saved = tab.evaluate("""new Promise((done) => {
      addEventListener("unhandledrejection", (event) => done(String(event.reason)));
      navigator.clipboard.write = () => Promise.reject(new DOMException("no", "NotAllowedError"));
      URL.createObjectURL = (blob) => {
        const reader = new FileReader();
        reader.onload = () => done(reader.result);
        reader.readAsDataURL(blob);
        return "data:,";
      };
      const buttons = [...document.querySelectorAll(".export-buttons button")];
      buttons.find((button) => button.textContent === "copy PNG").click();
    })""")
    kind, _, content = saved.partition(";base64,")
    image = base64.b64decode(content)
    assert kind == "data:image/png" and image.startswith(b"\x89PNG\r\n")
    shown = tab.evaluate(
        "(({ width, height }) => [width, height])(document.querySelector('.graph').getBoundingClientRect())"
    )
    assert list(struct.unpack(">II", image[16:24])) == pytest.approx([2 * side for side in shown], abs=2)
    assert len(image) > 20_000  # something is on it


def test_a_moving_slider_does_not_flood_the_address(pages: Pages, live: Live):
    """Browsers ignore a page that changes its address some hundred times in a few seconds."""
    tab = pages.open(live.page)
    writes, seconds = tab.evaluate("""(() => {
      let writes = 0;
      const began = Date.now();
      const put = history.replaceState.bind(history);
      history.replaceState = (...rest) => { writes++; put(...rest); };
      const slider = document.querySelector('.toolbar input[type="range"]');
      for (let i = 1; i <= 100; i++) {
        slider.value = i / 200;
        slider.dispatchEvent(new Event("input", { bubbles: true }));
      }
      return [writes, (Date.now() - began) / 1000];
    })()""")
    assert writes < 20 * max(1, seconds)  # a busy machine takes its time
    tab.wait("location.hash.includes('edges=0.5')")
    node = str(live.circuit.nodes[0])
    tab.evaluate(
        f"document.querySelector('[data-id=\"{node}\"] .mark')"
        ".dispatchEvent(new MouseEvent('click', { bubbles: true }))"
    )
    assert f"node={node}" in tab.evaluate("location.hash")
    tab.evaluate("history.back()")
    tab.wait("!location.hash.includes('node=')")
    assert "edges=0.5" in tab.evaluate("location.hash")


def test_unsaved_notes_are_asked_about(pages: Pages, live: Live):
    tab = pages.open(live.page, f"#node={live.circuit.nodes[0]}")
    left = "!dispatchEvent(new Event('beforeunload', { cancelable: true }))"
    assert not tab.evaluate(left)
    tab.click(".note-editor input")
    tab.type("mine")
    assert tab.evaluate(left)
    tab.click(".save-notes")
    assert not tab.evaluate(left)


def test_notes_of_neighbours_do_not_run_into_one_another(pages: Pages, live: Live):
    site = max((n.site for n in live.circuit.nodes), key=[n.site for n in live.circuit.nodes].count)
    row = [str(n) for n in live.circuit.nodes if n.site == site]
    assert len(row) > 3
    notes = {"single_double_quote": dict.fromkeys(row[:2], "a name of some length")}
    page = build_report("t", [(live.circuit, live.evidence)], settings=PageSettings(annotations=notes))
    boxes = pages.open(page).evaluate(
        "[...document.querySelectorAll('.name.given text')].map((e) => e.getBoundingClientRect().toJSON())"
    )
    a, b = sorted(boxes, key=lambda box: box["x"])
    assert a["right"] <= b["left"] or a["bottom"] <= b["top"] or b["bottom"] <= a["top"]


def test_nodes_without_edges_are_drawn(pages: Pages, live: Live):
    circuit = dataclasses.replace(live.circuit, edges=(), unembedding=(), importance=None)
    tab = pages.open(build_report("t", [(circuit, live.evidence)]), f"#node={circuit.nodes[0]}")
    assert tab.evaluate("document.querySelectorAll('.graph .node').length") == len(circuit.nodes)
    assert tab.evaluate("document.querySelectorAll('.graph .link.edge').length") == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "address",
    [
        "at=-3&prompt=-9B", "at=1.5&prompt=1e9A", "at=Infinity&prompt=", "set=0.attn.q.1=1e999@-4,=&at=99",
        "text=%00%F0%9F&at=1",
        "view=NaN,0,0&edges=-1&nodes=7&open=__proto__&to=x&of=y&with=z&theme=%3Cb%3E&paint=value",
    ],
)  # fmt: skip
def test_any_address_opens(pages: Pages, live: Live, address: str):
    node = str(live.circuit.nodes[2])
    tab = pages.open(live.page, f"#node={node}&{address}")
    assert tab.evaluate("document.querySelector('.pane h3').textContent") == node
    assert tab.evaluate("document.querySelectorAll('.answer-bar').length") == 2


def test_answers_show_their_shares_on_the_graph(pages: Pages, live: Live):
    tab = pages.open(live.page)

    def texts(elements: str, key: str, words: str) -> dict[str, str]:
        return tab.evaluate(
            f"Object.fromEntries([...document.querySelectorAll('{elements}')].map((e) => "
            f"[{key}, e.querySelector('{words}').textContent]))"
        )

    bars = texts(".answer-bar", "'answer.' + e.dataset.answer", "b")
    drawn = texts(".graph .answer", "e.dataset.id", ".answer-share")
    assert drawn == bars and len(bars) == 2


def test_an_emptied_prompt_stays_empty_while_it_is_edited(pages: Pages, live: Live):
    tab = pages.open(live.page)
    text = "document.querySelector('.bench textarea')"
    task = tab.evaluate(f"{text}.value")
    tab.evaluate(f"{text}.focus(); {text}.select()")
    tab.evaluate("document.execCommand('delete')")
    assert tab.evaluate(f"{text}.value") == ""
    tab.evaluate(f"{text}.blur()")
    assert tab.evaluate(f"{text}.value") == task


def test_the_empty_pane_lists_the_most_important_nodes(pages: Pages, live: Live):
    tab = pages.open(live.page)
    listed = tab.evaluate("[...document.querySelectorAll('.important a')].map((e) => e.textContent)")
    deltas = live.circuit.importance.node_deltas
    order = sorted(range(len(deltas)), key=lambda place: -deltas[place])
    assert listed == [str(live.circuit.nodes[place]) for place in order[: len(listed)]] and len(listed) > 5


def test_words_stand_out_from_their_ground(live: Live):
    """WCAG's ratio of 4.5, light and dark, for every colour of words on every ground that they stand on."""
    colours = dict(
        (name, (light, dark))
        for name, light, dark in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", live.page)
    )
    grounds = {
        **dict.fromkeys(("ink", "soft", "positive", "negative", "accent"), ("paper", "card", "band")),
        "warn": ("warn-back", "card", "paper"),
        "good": ("good-back", "card", "paper"),
    }
    for mode, (words, backs) in itertools.product((0, 1), grounds.items()):
        for back in backs:
            assert contrast(colours[words][mode], colours[back][mode]) >= 4.5, (words, back, mode)


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_the_pane_follows_a_held_node_when_its_slider_rests(pages: Pages, live: Live):
    node = live.circuit.nodes[live.circuit.edges[0].source]
    tab = pages.open(live.page, f"#node={node}")
    tab.evaluate(
        "(() => { const hold = document.querySelector('.hold'); hold.focus(); hold.value = hold.max;"
        "for (const kind of ['input', 'change']) hold.dispatchEvent(new Event(kind, { bubbles: true })); })()"
    )
    assert tab.evaluate("document.activeElement === document.querySelector('.hold')")
    assert tab.evaluate("document.querySelector('.hold-box button').textContent") == "release"
    held = tab.evaluate("document.querySelector('.held .chip').textContent")
    tab.click(".pane .link-list a")  # goes on with the node held, not back to before
    assert tab.evaluate("document.querySelector('.pane h3').textContent") != str(node)
    assert tab.evaluate("document.querySelector('.held .chip').textContent") == held


def test_characters_that_show_nothing_are_spelled_out(pages: Pages):
    script = (importlib.resources.files("circuits_jax.viewer") / "page" / "format.js").read_text("utf-8")
    hidden = [
        "\x00",
        "\r",
        "\x85",
        "\xa0",
        "\u2003",
        "\u200b",
        "\u202e",
        "\u3000",
        "\ufeff",
        "\uffff",
        "\ud83d",
    ]
    texts = json.dumps([*hidden, " ", "\n", "é", "漢", "😀"])
    shown = pages.open("").evaluate(f"(() => {{ {script} return {texts}.map(tokenAlone); }})()")
    assert shown == [f"\\u{ord(c):04x}" for c in hidden] + ["␣", "⏎", "é", "漢", "😀"]


@pytest.mark.slow
def test_circuits_of_unlike_models_are_set_side_by_side(pages: Pages, example: Example):
    """Heads of another size, and more answers than are drawn; keys and zoom work there too."""
    channel = example.circuit.unembedding[0].channel
    circuits = [
        dataclasses.replace(
            example.circuit,
            model_config={**example.circuit.model_config, "d_head": size},
            unembedding=tuple(Entry(first + i, channel, 1.0 + i) for i in range(15)),
        )
        for size, first in ((8, 0), (4, 40))
    ]
    notes = {"two": {str(example.circuit.nodes[0]): "my name"}}
    page = build_report(
        "t",
        [(c, example.evidence) for c in circuits],
        settings=PageSettings(["one", "two"], annotations=notes, comparison=True),
    )
    tab = pages.open(page)
    each = "[...document.querySelectorAll('.compare .graph')].map((svg) => svg.querySelectorAll('{}').length)"
    assert tab.evaluate(each.format(".answer")) == [12, 12]
    assert tab.evaluate(each.format('.vertex[tabindex="0"]')) == [1, 1]
    assert tab.evaluate(each.format(".name.given")) == [0, 1]
    before = tab.evaluate(SCALE)
    tab.key("+")
    assert tab.evaluate(SCALE) > before


def test_a_comparison_opens_side_by_side(pages: Pages, example: Example):
    circuits = [(example.circuit, example.evidence)] * 2
    page = build_report("t", circuits, settings=PageSettings(keys=["one", "two"], comparison=True))
    assert data_of(page)["comparison"] is True
    tab = pages.open(page)
    assert tab.evaluate("document.querySelectorAll('.compare .graph').length") == 2
    tab.click("#tabs a")  # and goes on to either
    assert tab.evaluate("document.querySelectorAll('.graph').length") == 1
    assert "with=" in tab.evaluate("location.hash")
    tab.evaluate("history.back()")
    tab.wait("document.querySelectorAll('.compare .graph').length === 2")

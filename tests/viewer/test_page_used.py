"""Clicks, keys, typed text and saved files on a page, in a real browser (skipped without Chromium)."""

import dataclasses
import html
import json
import re
from pathlib import Path

import numpy as np
import pytest

from circuits_jax.viewer.assembly import IndexRow, PageSettings, RunFigures, build_index, build_report
from circuits_jax.viewer.circuit_page.annotations import read_annotations
from tests.viewer.browser import Tab
from tests.viewer.conftest import SUMMARY, TITLE, Example, Live, Pages, document
from tests.viewer.page import place

HASH = "location.hash"


def selected(tab: Tab) -> list[str]:
    return tab.evaluate(
        "[...document.querySelectorAll('.vertex[aria-pressed=true]')].map((e) => e.dataset.id)"
    )


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
    note = "document.getElementById('index').textContent"
    assert f"Sizes are under {example.circuit.ablation} ablation." in tab.evaluate(note)
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

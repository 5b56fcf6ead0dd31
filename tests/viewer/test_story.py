"""The page's story, at its top."""

import pytest

from circuits_jax.circuits.stories.files import parse_story
from circuits_jax.viewer.assembly import PageSettings, build_report
from circuits_jax.viewer.stories import story_data
from tests.circuits.stories.told import claim, role, told_of
from tests.viewer.conftest import Live, Pages
from tests.viewer.synthetic import HOSTILE
from tests.viewer.test_assembly import data_of


def figure(value, passes, **fields):
    control = {"kind": "rest", "figure": 0.31, "nodes": 80, "meets": False, "beaten": True}
    usual = {"before": 0.5, "control": control, "holds": passes, "clear": True}
    return {"value": value, "low": value - 0.1, "high": value, "passes": passes, **usual, **fields}


def page_of(live: Live, measured: bool, hostile: str = "") -> str:
    """A story of two roles, of which one is confirmed."""
    a, b, c = live.circuit.nodes[:3]
    told = told_of(
        live.circuit,
        [
            role(
                f"carrier{hostile}", [a, b], claim("swap", where={"tokens": [f"x{hostile}"], "prompt": "B"})
            ),
            role("decision", [c], claim("set", to=-1.5, where={"at": "last"}, figure="A", at_most=0.2)),
        ],
        title=f"What it does{hostile}",
    )
    parsed = parse_story(told, live.circuit)
    figures = [[figure(0.95, True)], [figure(0.4, False, clear=False)]]
    settings = {"pairs": 256, "confidence": 0.95, "random_sets": 20}
    shown = story_data(parsed)
    if measured:
        object.__setattr__(parsed, "measured", {"settings": settings, "roles": figures})
        shown = story_data(parsed)
    page = build_report(
        "story", [(live.circuit, live.evidence)], settings=PageSettings(["t"], stories={"t": shown})
    )
    assert data_of(page)["circuits"][0]["story"] == shown
    return page


def test_roles_stand_at_the_top_with_figures_beside_them(pages: Pages, live: Live):
    tab = pages.open(page_of(live, measured=True))
    text = tab.evaluate("document.querySelector('.story').textContent")
    assert "What it does" in text and "1 of 2 roles confirmed" in text and "on 256 test pairs" in text
    one, two = tab.evaluate("[...document.querySelectorAll('.role')].map((e) => e.textContent)")
    assert one.startswith("1carrier \u2713 confirmed") and two.startswith(
        "2decision \u2717 not confirmed (0 of 1 claims)"
    )
    assert "0.95 (0.85 to 0.95)" in one and "asked: at least 0.90" in one
    assert "beside it: 0.31 by the 80 others" in one and "unchanged 0.50" in one
    assert "not confirmed: it misses its bound, close" in two and "asked: at most 0.20" in two
    assert "At tokens 'x' of prompt B, " in one and "set to what the other prompt of the pair has" in one
    assert "At the last position, " in two and "set to -1.5." in two
    order = "document.querySelector('.story').compareDocumentPosition(document.querySelector('.work')) & 4"
    assert tab.evaluate(order)
    pages.keep(tab, "story", whole=True)


def test_its_nodes_are_marked_on_the_graph_and_lead_there(pages: Pages, live: Live):
    tab = pages.open(page_of(live, measured=True))
    marks = "[e.parentNode.dataset.id, e.querySelector('text').textContent]"
    marked = dict(tab.evaluate(f"[...document.querySelectorAll('.role-ring')].map((e) => {marks})"))
    assert marked == {str(node): mark for node, mark in zip(live.circuit.nodes[:3], "112", strict=True)}
    tab.click(".role-nodes a")
    tab.wait(f"document.querySelector('.vertex.selected')?.dataset.id === '{live.circuit.nodes[0]}'")


@pytest.mark.parametrize("hostile", HOSTILE[:2])
def test_words_are_text_whatever_they_are(pages: Pages, live: Live, hostile: str):
    tab = pages.open(page_of(live, measured=True, hostile=hostile))
    text = tab.evaluate("document.querySelector('.story').textContent")
    assert f"What it does{hostile}" in text and f"carrier{hostile}" in text and f"x{hostile}" in text
    assert tab.evaluate("document.querySelectorAll('.story img, .story script').length") == 0


def test_a_story_that_was_not_measured_says_so(pages: Pages, live: Live):
    tab = pages.open(page_of(live, measured=False))
    text = tab.evaluate("document.querySelector('.story').textContent")
    assert text.count("not measured") == 4 and "confirmed" not in text and "asked: at least 0.90" in text


def test_without_a_story_there_is_none(pages: Pages, live: Live):
    tab = pages.open(live.page)
    assert tab.evaluate("document.querySelectorAll('.story, .role-ring').length") == 0

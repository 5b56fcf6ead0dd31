"""The page's section on readings of edges."""

import pytest

from circuits_jax.viewer.assembly import PageSettings, build_report
from tests.viewer.conftest import Example, Live, Pages
from tests.viewer.synthetic import HOSTILE
from tests.viewer.test_assembly import data_of

SETTINGS = {"recovery": 0.75, "coverage": 0.5, "effect": 0.01, "draws": 20, "pairs": 256}
ROWS = "[...document.querySelectorAll('.readings table')].map((t) => [...t.rows].map((r) => r.textContent))"


def readings_of(circuit, count: int, passed: int):
    """Made-up readings of the first `count` edges, `passed` of which pass."""
    rows = []
    for place, edge in enumerate(circuit.edges[:count]):
        passes = place < passed
        figures = {"coverage": 0.071, "recovery": 0.982, "inverse": -0.013} if passes else {}
        rows.append(
            {
                "source": str(circuit.nodes[edge.source]), "target": str(circuit.nodes[edge.target]),
                "rule": "given" if place == 1 else "default", "effect": 0.5 / (1 + place), "passes": passes,
                "tokens": [" name", "\n", *HOSTILE] if place == 0 else ["x"] * min(place, 100),
                "count": 2 + len(HOSTILE) if place == 0 else place if place < 9 else 1234,
                "random": 0.31 if passes else None,
                "random_sets": 20 if passes else 3 if place == passed else None,
                **({"coverage": 0.4, "recovery": 1.3, "inverse": 0.9} | figures),
            }
        )  # fmt: skip
    summary = {"edges": len(circuit.edges), "weak": 5, "judged": count, "passed": passed, "share": 0.25}
    return {"summary": summary, "settings": SETTINGS, "rows": rows}


def page_of(shown: Live | Example, readings, name: str = "t") -> str:
    """The page of one circuit with these readings."""
    settings = PageSettings([name], readings={name: readings} if readings else {})
    return build_report("readings", [(shown.circuit, shown.evidence)], settings=settings)


def test_the_best_come_first_with_tokens_as_text(pages: Pages, live: Live):
    tab = pages.open(page_of(live, readings_of(live.circuit, 16, 3)))
    shown, folded = tab.evaluate(ROWS)
    assert len(shown) == 13 and len(folded) == 5  # with their heads
    assert [row.startswith("\u2713 passes") for row in shown[1:]] == [True] * 3 + [False] * 9
    edge = live.circuit.edges[0]
    ends = f"{live.circuit.nodes[edge.source]} \u2192 {live.circuit.nodes[edge.target]}"
    assert shown[1].startswith("\u2713 passes" + ends)
    assert "\u2423name" in shown[1] and "\u23ce" in shown[1] and HOSTILE[0] in shown[1]
    assert shown[1].endswith("7%98%\u22121%0.50031%")
    assert shown[4].startswith("\u2717 fails") and shown[4].endswith("too few: 3")
    assert "given" in shown[2] and "given" not in shown[1]
    assert "and 1,226 more" in shown[10] and shown[10].endswith("40%130%90%0.0500\u2013")
    words = tab.evaluate("document.querySelector('.readings').textContent")
    assert "3 of 16 pass" in words and f"Of {len(live.circuit.edges)} edges 5 have an effect under" in words
    pages.keep(tab, "readings", whole=True)


def test_an_edge_leads_to_its_ends_on_the_graph(pages: Pages, live: Live):
    tab = pages.open(page_of(live, readings_of(live.circuit, 3, 1)))
    tab.click(".readings tbody a")
    edge = live.circuit.edges[0]
    source, target = live.circuit.nodes[edge.source], live.circuit.nodes[edge.target]
    tab.wait(f"document.querySelector('.paths h4')?.textContent.includes('{source} to {target}')")


@pytest.mark.parametrize("some", [False, True])
def test_without_readings_there_is_nothing_to_read(pages: Pages, example: Example, some: bool):
    readings = readings_of(example.circuit, 0, 0) if some else None
    page = page_of(example, readings)
    assert data_of(page)["circuits"][0]["readings"] == readings
    tab = pages.open(page)
    assert tab.evaluate("document.querySelectorAll('.readings').length") == some
    assert tab.evaluate("document.querySelectorAll('.readings table').length") == 0

"""The page as a file: the same twice, nothing from outside, nothing that token text could break."""

import dataclasses
import importlib.resources
import json
import re

import numpy as np
import pytest

from circuits_jax.circuits.circuit import Importance
from circuits_jax.storage.errors import CircuitError
from circuits_jax.viewer.assembly import (
    CIRCUIT_SCRIPTS,
    INDEX_SCRIPTS,
    MAX_CURVE_ROWS,
    IndexRow,
    PageSettings,
    RunFigures,
    build_index,
    build_report,
    embed_json,
    write_report,
)
from tests.viewer import synthetic
from tests.viewer.conftest import METRICS, RESULTS, SUMMARY, TITLE
from tests.viewer.page import parse


def data_of(page: str) -> dict:
    (script,) = [e for e in parse(page).all("script") if e.attributes.get("type") == "application/json"]
    return json.loads(script.text)


def test_same_arguments_give_the_same_page(example):
    again = build_report(TITLE, [(example.circuit, example.evidence)], RunFigures(METRICS, RESULTS, SUMMARY))
    assert again == build_report(
        TITLE, [(example.circuit, example.evidence)], RunFigures(METRICS, RESULTS, SUMMARY)
    )
    changed = dict(SUMMARY, layers=3)
    assert again != build_report(
        TITLE, [(example.circuit, example.evidence)], RunFigures(METRICS, RESULTS, changed)
    )


def test_the_page_needs_nothing_from_outside(example):
    assert not re.search(r"https?:|//cdn|@import|[^.]url\(|\bfetch\(|XMLHttpRequest|import\(", example.page)
    for element in parse(example.page).all():
        assert not {"src", "href", "srcset", "action", "onload", "onerror"} & set(element.attributes)
        assert element.tag not in ("link", "iframe", "object", "img", "base")
    (policy,) = [
        e
        for e in parse(example.page).all("meta")
        if e.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.attributes["content"].startswith("default-src 'none';")


def test_hostile_tokens_stay_data(example):
    pieces = set(example.evidence["pieces"].values())
    assert {"</script>", "<img src=x onerror=alert(1)>", "{{data}}"} <= pieces
    root = parse(example.page)
    assert len(root.all("script")) == 2 and not root.all("b")
    assert data_of(example.page)["circuits"][0]["evidence"]["pieces"] == example.evidence["pieces"]
    assert data_of(example.page)["summary"] == SUMMARY
    assert root.all("title")[0].words() == root.all("h1")[0].words() == TITLE


def test_the_page_holds_the_whole_circuit(example):
    circuit, data = example.circuit, data_of(example.page)["circuits"][0]
    assert [(site, index) for site, index, _ in data["nodes"]] == [tuple(node) for node in circuit.nodes]
    assert [bias for *_, bias in data["nodes"]] == list(circuit.bias_only)
    assert [tuple(edge) for edge in data["edges"]] == [tuple(edge) for edge in circuit.edges]
    assert data["metrics"] == circuit.metrics and data["description"].startswith("close the string")
    first = circuit.nodes[0]
    assert data["means"][0] == circuit.means[first.site][first.index]


@pytest.mark.parametrize("text", ["</script>", "<!--", "a & b", "\u2028\u2029", "\ud800", "'\"\\", "ü𝔘"])
def test_embedded_json_is_harmless_and_exact(text):
    embedded = embed_json({text: [text]})
    assert json.loads(embedded) == {text: [text]}
    assert embedded.isascii() and not set("<>&") & set(embedded)


def test_embedded_json_takes_numpy_and_drops_what_is_not_finite():
    value = {"a": np.float32(0.5), "b": (np.int64(3), float("nan"), np.inf), 4: np.array([True, False])}
    assert json.loads(embed_json(value)) == {"a": 0.5, "b": [3, None, None], "4": [True, False]}
    with pytest.raises(TypeError):
        embed_json({"a": object()})


def test_evidence_of_another_circuit_is_refused(example):
    smaller = dataclasses.replace(example.circuit, nodes=example.circuit.nodes[:-1])
    with pytest.raises(CircuitError, match="gather it again"):
        build_report(TITLE, [(smaller, example.evidence)])


def test_an_index_holds_what_its_table_and_thumbnails_need(example):
    index = build_index(
        "i", [IndexRow("a/b", example.circuit, "faithful", "circuits/a/page.html")], [("c", "<why>")]
    )
    data = data_of(index)
    assert [row["task"] for row in data["rows"]] == ["a/b", "c"]
    first, second = data["rows"]
    assert (first["nodes"], first["edges"], first["verdict"]) == (40, len(example.circuit.edges), "faithful")
    assert first["loss"] == example.circuit.metrics["test/calibrated_loss"]
    assert (second["verdict"], second["note"], second["loss"]) == ("refused", "<why>", None)
    assert len(data["circuits"]) == 1 and len(data["circuits"][0]["nodes"]) == 40
    assert len(index) < len(example.page) / 2  # no evidence in it


def test_importance_and_audit_reach_the_page(example):
    weighed = Importance(np.full(40, 0.12345678), np.zeros(len(example.circuit.edges)), {}, {}, {}, 8)
    circuit = dataclasses.replace(example.circuit, importance=weighed)
    audit = {"verdict": {"verdict": "faithful"}, "controls": None}
    page = build_report(
        "t", [(circuit, example.evidence)], settings=PageSettings(audits={circuit.task: audit, "other": {}})
    )
    data = data_of(page)["circuits"][0]
    assert data["nodeDeltas"] == [0.1235] * 40 and data["audit"] == audit
    assert data_of(example.page)["circuits"][0]["nodeDeltas"] is None


def test_circuits_of_one_task_get_tabs_of_their_own(example):
    pair = (example.circuit, example.evidence)
    keys = [circuit["key"] for circuit in data_of(build_report(TITLE, [pair] * 3))["circuits"]]
    assert keys[0] == example.circuit.task and len(set(keys)) == 3


def test_long_training_curves_are_thinned_but_keep_their_ends():
    rows = [{"step": i, "loss": float(i)} for i in range(5000)]
    rows[4999]["validation_loss"] = 2.5
    training = data_of(build_report(TITLE, [], RunFigures(rows)))["training"]
    assert len(training["loss"]) == MAX_CURVE_ROWS
    assert training["loss"][0] == [0, 0.0] and training["loss"][-1] == [4999, 4999.0]
    assert training["validation_loss"] == [[4999, 2.5]] and training["l0"] == []


def test_every_file_of_the_page_is_used():
    folder = importlib.resources.files("circuits_jax.viewer") / "page"
    scripts = {*CIRCUIT_SCRIPTS, *INDEX_SCRIPTS}
    assert {item.name for item in folder.iterdir() if item.name.endswith(".js")} == scripts
    for name in scripts:
        text = (folder / name).read_text()
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|</script", text
        ), name


def test_the_page_is_written_whole(tmp_path, example):
    target = tmp_path / "run" / "report.html"
    write_report(target, "old")
    write_report(target, example.page)
    assert target.read_text(encoding="utf-8") == example.page
    assert [item.name for item in target.parent.iterdir()] == ["report.html"]


def test_synthetic_circuit_is_worth_drawing(example):
    """The other tests would prove little on a circuit without heads, rails or constants."""
    locations = {node.site.split(".", 1)[1] for node in example.circuit.nodes}
    assert {"attn.v", "attn.q", "attn.k", "mlp.post_act"} <= locations
    assert any(example.circuit.bias_only) and not all(example.circuit.bias_only)
    assert len(example.circuit.edges) > 20 and synthetic.HOSTILE

"""Annotations and verdicts that are read back from files."""

import hashlib
import json

import pytest

from circuits_jax.circuits.audit.records import FORMAT, VERSION
from circuits_jax.storage.errors import CircuitError
from circuits_jax.viewer.circuit_page.annotations import read_annotations
from circuits_jax.viewer.verdicts import read_audits, verdict_words

GOOD = {
    "format": "circuits_jax.annotations",
    "version": 1,
    "circuits": {"t": {"0.attn.q.1": "the <b> quote", "x": 3, "y": " \t"}},
}


def test_annotations_are_read(tmp_path):
    path = tmp_path / "notes.json"
    path.write_text(json.dumps(GOOD))
    assert read_annotations(path) == {"t": {"0.attn.q.1": "the <b> quote"}}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        pytest.param("[" * 100_000, id="deep"),
        '{"format": "other"}',
        json.dumps({**GOOD, "circuits": [1]}),
        "\xff",
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "notes.json"
    path.write_text(content)
    with pytest.raises(CircuitError) as caught:
        read_annotations(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(CircuitError, match="cannot read"):
        read_annotations(tmp_path / "none.json")


def test_an_audit_counts_for_the_circuit_that_was_audited(tmp_path):
    folder = tmp_path / "circuits" / "t"
    folder.mkdir(parents=True)
    (folder / "circuit.json").write_text("as audited")
    settings = {"pairs": 8}
    key = hashlib.sha256(b"as audited" + json.dumps(settings, sort_keys=True).encode()).hexdigest()
    report = {"key": key, "verdict": {"verdict": "faithful"}, "controls": None, "natural": "much more"}
    found = {"format": FORMAT, "version": VERSION, "settings": settings, "tasks": {"t": report}}
    path = tmp_path / "audit.json"
    assert read_audits(path, [folder]) == {}
    path.write_text(json.dumps(found))
    audits = read_audits(path, [folder, tmp_path / "circuits" / "other"])
    assert audits == {"t": {"verdict": {"verdict": "faithful"}, "controls": None}}
    assert (verdict_words(audits["t"]), verdict_words(None)) == ("faithful", "not audited")
    path.write_text(json.dumps({**found, "version": VERSION - 1}))
    assert verdict_words(read_audits(path, [folder])["t"]) == "needs a new audit"
    path.write_text(json.dumps({**found, "version": VERSION + 1}))
    assert read_audits(path, [folder]) == {}
    path.write_text(json.dumps(found))
    other = tmp_path / "circuits" / "other"
    other.mkdir()
    (other / "circuit.json").write_text("as audited")
    for damaged in (3, {"key": key}, report | {"verdict": None}, report | {"verdict": {"verdict": 3}}):
        path.write_text(json.dumps({**found, "tasks": {"other": damaged, "t": report}}))
        assert list(read_audits(path, [other, folder])) == ["t"]
    path.write_text(json.dumps(found))
    (folder / "circuit.json").write_text("cut anew")
    assert read_audits(path, [folder]) == {}
    path.write_text(json.dumps({**found, "tasks": {"t": []}, "settings": 3}))
    assert read_audits(path, [folder]) == {}
    path.write_text(json.dumps({**found, "tasks": []}))
    assert read_audits(path, [folder]) == {}
    path.write_text(json.dumps({**found, "version": VERSION - 1}))
    assert read_audits(path, [folder]) == {}
    path.write_text("half a fi")
    assert read_audits(path, [folder]) == {}

"""An `audit.json` that this release cannot read is kept beside the new one."""

import dataclasses
import json

import numpy as np
import pytest

from circuits_jax.circuits.audit.records import (
    FORMAT,
    VERSION,
    circuit_key,
    earlier_refusals,
    earlier_reports,
    kept_reports,
    put_aside,
    read_any_version,
)
from circuits_jax.circuits.circuit import MANIFEST
from circuits_jax.config import AuditConfig, to_dict
from circuits_jax.storage import notices
from circuits_jax.storage.errors import CheckpointError
from tests.circuits.readings.test_rules import CIRCUIT

TABLE = {"format": FORMAT, "version": VERSION, "tasks": {}}


@pytest.fixture(autouse=True)
def told(monkeypatch):
    """What would be told at the end of a command."""
    lines = []
    monkeypatch.setattr(notices, "at_the_end", lines.append)
    return lines


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"format": "circ', "is not valid JSON"),
        (b"", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"\xff\xfe", "is not valid JSON"),
        (b"[]", "holds no audits"),
        (b'{"format": "other"}', "holds no audits"),
        (json.dumps(TABLE | {"version": VERSION + 1}).encode(), f"is of version {VERSION + 1}"),
        (json.dumps(TABLE | {"version": "x"}).encode(), "is of version 'x'"),
        (json.dumps(TABLE | {"version": 1}).encode(), "is of version 1"),
        (json.dumps(TABLE | {"tasks": []}).encode(), "no table of audits"),
    ],
)
def test_a_file_that_cannot_be_read_is_renamed_and_told(tmp_path, content, why, told):
    path = tmp_path / "audit.json"
    for name in ("audit.json.damaged", "audit.json.damaged+"):
        path.write_bytes(content)
        assert isinstance(read_any_version(path), dict)
        put_aside(path)
        assert not path.exists() and (tmp_path / name).read_bytes() == content
        assert why in told[-1] and told[-1].endswith(f"kept as {name}")
    assert len(told) == 2 and "\n" not in "".join(told)


def test_a_folder_in_its_place_is_renamed_too(tmp_path):
    (tmp_path / "audit.json").mkdir()
    put_aside(tmp_path / "audit.json")
    assert (tmp_path / "audit.json.damaged").is_dir()


def test_one_that_can_be_read_stays_and_so_does_none(tmp_path):
    put_aside(tmp_path / "audit.json")
    (tmp_path / "audit.json").write_text(json.dumps(TABLE))
    put_aside(tmp_path / "audit.json")
    assert [path.name for path in tmp_path.iterdir()] == ["audit.json"]


def test_a_pointer_is_refused(tmp_path):
    (tmp_path / "audit.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(CheckpointError, match="git lfs pull"):
        put_aside(tmp_path / "audit.json")
    assert (tmp_path / "audit.json").exists()


@pytest.mark.parametrize("task", ["x" * 300, "a\0b", "../..", "", "\ud800"])
def test_audits_of_what_no_folder_can_be_called_are_not_taken_over(tmp_path, task):
    path = tmp_path / "audit.json"
    about = {"format": FORMAT, "version": VERSION, "settings": {}}
    path.write_text(json.dumps(about | {"tasks": {task: {}}, "rows": [{"task": task, "refused": "why"}]}))
    assert kept_reports(path, tmp_path) == {} and earlier_refusals(path, tmp_path) == {}


def test_of_a_report_that_flags_by_test_pairs_all_is_kept_but_that_flag(tmp_path):
    """The circuit's file says what pruning flagged the model as; figures and verdicts stay."""
    path, folder = tmp_path / "audit.json", tmp_path / "a"
    prune = {"prune": {"select_pairs": 8}}
    means = {node.site: np.zeros(8, np.float32) for node in CIRCUIT.nodes}
    bare = dataclasses.replace(CIRCUIT, means=means, provenance=prune)
    flagged = dataclasses.replace(
        bare, metrics={"full/select/calibrated_loss": 0.1}, provenance=prune | {"mediocre_model": False}
    )
    for circuit, known in (
        (flagged, {"flag": "good", "select_loss": 0.1}),
        (bare, {"flag": None, "select_loss": None}),
    ):
        circuit.save(folder)
        model = {"test": {"calibrated_loss": {"value": 0.2}}, "assessment": "mediocre"}
        report = {"key": circuit_key(folder, {}), "settings": {}, "model": model, "verdict": {}}
        path.write_text(json.dumps(TABLE | {"tasks": {"a": report}}))
        kept = kept_reports(path, tmp_path)["a"]
        assert kept == report | {"model": {"test": model["test"], **known}}
        path.write_text(json.dumps(TABLE | {"tasks": {"a": kept}}))
        assert kept_reports(path, tmp_path)["a"] == kept
    (folder / "circuit.safetensors").unlink()
    path.write_text(json.dumps(TABLE | {"tasks": {"a": report}}))
    assert kept_reports(path, tmp_path)["a"]["model"]["flag"] is None  # and no audit is lost by it


@pytest.mark.parametrize("report", [3, None, [], {}, {"settings": 3}, {"settings": {}, "key": 3}])
def test_of_a_damaged_audit_of_a_circuit_that_is_there_nothing_is_kept(tmp_path, report):
    path = tmp_path / "audit.json"
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / MANIFEST).write_text("{}")
    path.write_text(json.dumps(TABLE | {"tasks": {"a": report, "gone": report}}))
    assert kept_reports(path, tmp_path) == {"a": {}}
    assert earlier_reports(path, tmp_path, AuditConfig()) == {}


@pytest.mark.parametrize("met", [True, False, None])
def test_an_audit_that_counted_a_circuit_that_misses_by_its_own_edges_is_made_anew(tmp_path, met):
    path, folder = tmp_path / "audit.json", tmp_path / "a"
    provenance = {"prune": {"select_pairs": 8}} | ({} if met is None else {"met_target": met})
    dataclasses.replace(
        CIRCUIT,
        means={node.site: np.zeros(8, np.float32) for node in CIRCUIT.nodes},
        metrics={"select/calibrated_loss": 0.3},
        provenance=provenance,
    ).save(folder)
    settings = to_dict(AuditConfig())
    report = {"key": circuit_key(folder, settings), "settings": settings, "model": {"flag": None}}
    for controls, circuit, there in (
        ({"rows": []}, {"edges": 6}, met is not False),
        ({"rows": []}, {"edges": 6, "counted_edges": 99}, True),
        ({"rows": []}, 3, True),  # damaged, as is said elsewhere
        (None, {"edges": 6}, True),  # whose verdict does not depend on it
    ):
        written = report | {"controls": controls, "circuit": circuit}
        path.write_text(json.dumps(TABLE | {"tasks": {"a": written}}))
        assert earlier_reports(path, tmp_path, AuditConfig()) == ({"a": written} if there else {})
        assert kept_reports(path, tmp_path) == {"a": written}

"""The command's work: pages of every circuit, an index that links to them, comparisons."""

import dataclasses
import hashlib
import json
import shutil
import types
from pathlib import Path

import pytest

from circuits_jax.circuits.audit.records import FORMAT, VERSION
from circuits_jax.circuits.circuit import MANIFEST, Circuit
from circuits_jax.commands.view import name_workdir
from circuits_jax.config import Config
from circuits_jax.runs import comparison, pages
from circuits_jax.runs.comparison import Opening, compare_circuits
from circuits_jax.runs.pages import read_outcomes, read_records, write_pages
from circuits_jax.runs.pruning import Outcome
from circuits_jax.runs.run import Run
from circuits_jax.storage.errors import CircuitError
from tests.viewer.conftest import Live
from tests.viewer.test_assembly import data_of


@pytest.fixture
def run(live: Live, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The run of any folder, with a tiny corpus and pairs."""
    config = dataclasses.replace(Config(), model=live.model.config)
    run = Run(live.model, tmp_path, config, corpus_of(live))
    monkeypatch.setattr(
        comparison, "load_workdir", lambda home, store: dataclasses.replace(run, workdir=home)
    )
    monkeypatch.setattr(pages, "build_pairs", lambda *rest: live.pairs)
    return run


def corpus_of(live: Live) -> types.SimpleNamespace:
    windows = live.pairs.tokens[:, 0, :1].repeat(live.model.config.n_ctx + 1, axis=1)
    return types.SimpleNamespace(validation=types.SimpleNamespace(tokens=windows))


def save_circuit(live: Live, run: Run, folder: Path) -> Circuit:
    circuit = dataclasses.replace(
        live.circuit,
        model_hash=run.model.hash,
        tokenizer_hash=run.tokenizer.hash,
        provenance={"prune": {"heldout_pairs": 4, "seed": 0}},
    )
    circuit.save(folder)
    return circuit


def test_every_circuit_gets_a_page_and_the_index_links_to_it(live: Live, run: Run, tmp_path, browser):
    circuit = dataclasses.replace(live.circuit, importance=None)
    outcomes = [
        Outcome("quo tes#1", circuit, None, live.pairs),
        Outcome("other", None, "the model knows <nothing>", None),
    ]
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 3.5}\n{"step": 2, "loss": 3.0}\n')
    notes = {"quo tes#1": {str(circuit.nodes[0]): "my name"}}
    (tmp_path / "bridges.html").write_text("<title>bridges</title>")
    index = write_pages(run, outcomes, {"steps": 2}, notes).path
    assert index == tmp_path / "report.html"
    tab = browser.open(index.as_uri())
    assert tab.evaluate("[...document.querySelectorAll('a.home')].map((e) => e.textContent)") == ["bridges"]
    assert tab.evaluate("document.querySelector('a.home').href") == (tmp_path / "bridges.html").as_uri()
    assert "the model knows <nothing>" in tab.evaluate("document.querySelector('table').textContent")
    tab.click("tbody td:nth-child(2) a")
    tab.wait("location.pathname.endsWith('circuits/quo%20tes%231/page.html')")
    tab.wait("document.querySelector('.graph') !== null")
    assert "my name" in tab.evaluate("document.querySelector('.names').textContent")
    assert tab.evaluate("new URL(document.querySelector('.home').href).pathname") == str(index)
    assert not tab.complaints()
    tab.close()


def test_only_the_pages_of_a_coupled_model_link_to_the_bridges_beside_them(live: Live, tmp_path):
    (tmp_path / "bridges.html").write_text("")
    runs = {name: Run(live.model, tmp_path / name) for name in ("", "sparse", "other")}
    places = {name: pages._bridge_page(run.folder, run.name) for name, run in runs.items()}
    assert places == {"": "bridges.html", "sparse": "../bridges.html", "other": None}


def test_a_comparison_holds_both_circuits_and_their_audits(
    live: Live, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """One of them of an older version of the file, which knew no importance."""
    for name in ("new", "old"):
        save_circuit(live, run, tmp_path / "circuits" / name)
    path = tmp_path / "circuits" / "old" / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 1, "importance": None}))
    settings = {"pairs": 8}
    key = hashlib.sha256(path.read_bytes() + json.dumps(settings, sort_keys=True).encode()).hexdigest()
    report = {"key": key, "verdict": {"verdict": "faithful"}, "controls": None}
    found = {"format": FORMAT, "version": VERSION, "settings": settings, "tasks": {"old": report}}
    (tmp_path / "audit.json").write_text(json.dumps(found))
    monkeypatch.setattr(pages, "gather_evidence", lambda *rest: live.evidence)
    notes = {"old": {str(live.circuit.nodes[0]): "my name"}}
    data = data_of(compare_circuits(["new", "old"], tmp_path, notes).read_text())
    assert data["annotations"] == notes
    assert data["comparison"] is True and [c["key"] for c in data["circuits"]] == ["new", "old"]
    assert [c["nodeDeltas"] is None for c in data["circuits"]] == [False, True]
    assert data["circuits"][0]["audit"] is None
    assert data["circuits"][0]["ofTwoSplits"]  # of settings with one number of pairs to choose and to test by
    assert data["circuits"][1]["audit"] == {"verdict": {"verdict": "faithful"}, "controls": None}


def test_circuits_go_by_their_folders_and_newer_files_are_left_out(live: Live, run: Run, tmp_path):
    for name in ("seed 0", "seed 1"):  # of one task
        save_circuit(live, run, tmp_path / "circuits" / name)
    assert [outcome.task for outcome in read_outcomes(run)] == ["seed 0", "seed 1"]
    path = tmp_path / "circuits" / "seed 1" / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99}))
    whole, left_out = read_outcomes(run)
    assert whole.circuit is not None and left_out.circuit is None and "version 99" in str(left_out.refusal)
    prune = {"heldout_pairs": 4, "seed": 0}
    for odd in (["https://x/a.jsonl"], 5, [5]):
        found = {"prune": prune | {"tasks": odd}}
        path.write_text(
            json.dumps(json.loads(path.read_text()) | {"version": 2, "provenance": found, "task": "x"})
        )
        assert [outcome.circuit is None for outcome in read_outcomes(run)] == [False, True]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99}))
    shutil.rmtree(tmp_path / "circuits" / "seed 0")
    with pytest.raises(CircuitError, match="version 99"):
        read_outcomes(run)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2, "provenance": {"prune": {}}}))
    with pytest.raises(CircuitError, match="does not say how"):
        read_outcomes(run)


def test_what_other_commands_reported_is_shown_again(tmp_path):
    assert read_records(tmp_path) == ({}, {})
    rows = [{"task": "a", "refused": "knows nothing"}, {"task": "b", "nodes": 3}]
    (tmp_path / "quickstart.json").write_text(json.dumps({"summary": {"steps": 5}, "rows": rows}))
    assert read_records(tmp_path) == ({"steps": 5}, {"a": "knows nothing"})
    (tmp_path / "prune.json").write_text(
        json.dumps({"summary": {}, "rows": [{"task": "a", "refused": "still"}]})
    )
    assert read_records(tmp_path) == ({"steps": 5}, {"a": "still"})
    for broken in ("", "[]", '{"rows": 3}', '{"rows": [{}], "summary": {}}'):
        (tmp_path / "prune.json").write_text(broken)
        assert read_records(tmp_path) == ({"steps": 5}, {"a": "knows nothing"})


def test_runs_that_are_compared_find_their_corpus_where_it_lies_by_now(
    live: Live, run: Run, tmp_path, monkeypatch
):
    for name in ("one", "two"):
        save_circuit(live, run, tmp_path / "circuits" / name)
    monkeypatch.setattr(pages, "gather_evidence", lambda *rest: live.evidence)
    stores = []
    monkeypatch.setattr(
        comparison,
        "load_workdir",
        lambda home, store: stores.append(store) or dataclasses.replace(run, workdir=home),
    )
    compare_circuits(["one", "two"], tmp_path, opening=Opening(store="moved"))
    assert stores == ["moved"]


def test_comparisons_of_one_circuit_or_of_none_are_refused(tmp_path):
    with pytest.raises(CircuitError, match="two circuits or more"):
        compare_circuits(["one"], tmp_path)
    with pytest.raises(CircuitError, match="one is no circuit of"):
        compare_circuits(["one", "two"], tmp_path)


@pytest.mark.parametrize(
    ("given", "meant"),
    [(["runs/x", "--a=b"], ["--workdir=runs/x", "--a=b"]), (["--workdir=y"], ["--workdir=y"]), ([], [])],
)
def test_the_workdir_may_stand_first(given, meant):
    assert name_workdir(given) == meant

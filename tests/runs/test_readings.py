"""The readings of a run's circuits: what is kept beside them, reused, gone on with and refused."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from circuits_jax.circuits.readings.measure import EdgeReader
from circuits_jax.circuits.readings.records import FILE, UNFINISHED
from circuits_jax.commands import readings as command
from circuits_jax.runs import readings
from circuits_jax.runs.auditing import find_subjects
from circuits_jax.runs.readings import read_edges, read_rules
from circuits_jax.storage.errors import CheckpointError, CircuitError, ConfigError, TaskError
from circuits_jax.viewer.edge_readings import read_shown
from tests.runs.digits import READINGS, TASK, make_model, make_run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(a model of random weights, the file of a task)."""
    return make_model(tmp_path_factory.mktemp("readings"))


@pytest.fixture(scope="module")
def read(made, tmp_path_factory):
    """A run of that model whose one circuit, of a few edges, was never pruned but is read."""
    run = make_run(*made, tmp_path_factory.mktemp("run"))
    run.readings(*run.circuits)
    return run


@pytest.fixture
def run(read, tmp_path):
    """A copy of it."""
    shutil.copytree(read.folder, tmp_path, dirs_exist_ok=True)
    return dataclasses.replace(read, workdir=tmp_path)


def place(run, name=FILE):
    return run.folder / "circuits" / TASK / name


def test_readings_lie_beside_the_circuit_and_are_not_made_again(run, monkeypatch):
    (circuit,) = run.circuits
    report = run.readings(circuit)
    written = json.loads(place(run).read_text())
    assert written == json.loads(json.dumps(report.report)) and not place(run, UNFINISHED).exists()
    rows, summary = report.rows, report.summary
    ends = [f"{circuit.nodes[edge.source]} -> {circuit.nodes[edge.target]}" for edge in circuit.edges]
    assert sorted(f"{row['source']} -> {row['target']}" for row in rows) == sorted(ends)
    judged = [row for row in rows if row["passes"] is not None]
    assert 1 < len(judged) == summary["judged"] == len(rows) - summary["weak"] < len(rows)
    assert all((row["effect"] > 0) == (row["passes"] is not None) for row in rows)
    assert rows[: len(judged)] == judged  # then those of too small an effect
    order = [(not row["passes"], -row["score"]) for row in judged]
    assert order == sorted(order)
    assert summary["passed"] == sum(row["passes"] for row in judged)
    assert summary["share"] == report.share == summary["passed"] / summary["judged"]
    assert "\n" not in repr(report) and report._repr_html_().startswith("<table>")
    monkeypatch.setattr(EdgeReader, "effect", None)
    assert run.readings(circuit).report == written


@pytest.mark.slow
def test_what_was_stopped_goes_on_and_comes_out_the_same(run, monkeypatch):
    (circuit,) = run.circuits
    whole, read_one, calls = run.readings(circuit).report, EdgeReader.read, []
    place(run).unlink()
    monkeypatch.setattr(readings, "SAVE_SECONDS", 0.0)

    def stopping(reader, edge, rules=None):
        calls.append(edge)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return read_one(reader, edge, rules)

    monkeypatch.setattr(EdgeReader, "read", stopping)
    with pytest.raises(KeyboardInterrupt):
        run.readings(circuit)
    assert place(run, UNFINISHED).exists() and not place(run).exists()
    monkeypatch.setattr(EdgeReader, "effect", None)
    assert run.readings(circuit).report == whole
    assert len(calls) == len(set(calls)) + 1  # the one that was stopped
    assert not place(run, UNFINISHED).exists()


def test_a_circuit_that_was_cut_anew_has_no_readings(run):
    (circuit,) = run.circuits
    report = run.readings(circuit)
    shown = read_shown([place(run, "")])[TASK]
    assert shown["summary"] == report.summary and len(shown["rows"]) == report.summary["judged"]
    assert shown["settings"]["draws"] == 3 and shown["rows"][0]["count"] >= len(shown["rows"][0]["tokens"])
    dataclasses.replace(circuit, metrics={"nodes": 1}).save(place(run, ""))
    assert read_shown([place(run, "")]) == {}


def test_readings_that_passed_by_fewer_sets_than_asked_are_made_again(run):
    """As earlier releases wrote them."""
    report = run.readings(run.circuits[0]).report
    rows = [dict(row) for row in report["rows"]]
    rows[0] |= {"passes": True, "random_sets": READINGS.draws - 1}
    place(run).write_text(json.dumps({**report, "rows": rows}))
    assert read_shown([place(run, "")]) == {}
    assert run.readings(run.circuits[0]).report == report
    rows[0]["random_sets"] = READINGS.draws
    place(run).write_text(json.dumps({**report, "rows": rows}))
    assert read_shown([place(run, "")])[TASK]["rows"][0]["passes"]


@pytest.mark.parametrize(
    "change", [{"rows": 3}, {"rows": [{"passes": True}]}, {"rows": [5]}, {"settings": None}, {"version": 9}]
)
def test_a_file_that_lacks_something_counts_as_none(run, change):
    report = run.readings(run.circuits[0]).report
    place(run).write_text(json.dumps({**report, **change}))
    assert read_shown([place(run, "")]) == {}
    place(run).write_text('{"format": "circuits_j')
    assert read_shown([place(run, "")]) == {}


def edges_of(report):
    return {f"{row['source']} -> {row['target']}": row for row in report.rows}


@pytest.mark.slow
def test_readings_of_ones_own(run, tmp_path):
    """In a file or as a function, for some edges; the others keep their default ones."""
    (circuit,) = run.circuits
    before = edges_of(run.readings(circuit))
    edge = next(name for name, row in before.items() if row["passes"] is not None)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({edge: [" =", "x"]}))
    (given,) = (row for name, row in edges_of(run.readings(circuit, path)).items() if name == edge)
    assert given["rule"] == "given" and given["tokens"] == [" =", "x"]
    after = edges_of(run.readings(circuit, str(path)))
    assert {name: row for name, row in after.items() if name != edge} == {
        name: row for name, row in before.items() if name != edge
    }
    ids = given["ids"]
    by_function = edges_of(
        run.readings(circuit, lambda name, tokens: np.isin(tokens, ids) if name == edge else None)
    )
    for figure in ("coverage", "recovery", "inverse", "effect"):
        assert by_function[edge][figure] == given[figure]
    assert edges_of(run.readings(circuit))[edge] == before[edge]  # no rules any more


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("{", ConfigError, "is not valid JSON"),
        ("[]", ConfigError, "holds no rules; write {"),
        ("{}", ConfigError, "holds no rules; write {"),
        ('{"a -> b": [1], "a -> b": [2]}', ConfigError, "names 'a -> b' twice"),
        ("", CheckpointError, "is empty"),
        ("[" * 100000, ConfigError, "is not valid JSON"),
    ],
)
def test_a_file_that_holds_no_rules_is_one_line(tmp_path, text, error, words):
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(error, match=words) as raised:
        read_rules(tmp_path / "mine.json")
    assert "\n" not in str(raised.value)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_rules(tmp_path / "other.json")


def test_what_cannot_be_read_is_refused_before_any_work(run, made, monkeypatch):
    (circuit,), config = run.circuits, run.whole_config
    place(run).unlink()
    monkeypatch.setattr(EdgeReader, "effect", None)
    node = str(circuit.nodes[0])
    for rules, error, words in (
        ({"a -> b": [1]}, CircuitError, "has no edge 'a -> b'"),
        ({f"{node} -> {node}": [1]}, CircuitError, f"the circuit of {TASK} has no edge"),
        (lambda name, tokens: np.zeros(len(tokens), bool), ConfigError, "selects none of the tokens"),
        (3, ConfigError, "what gives the rules is 3; give {"),
    ):
        with pytest.raises(error, match=words) as raised:
            run.readings(circuit, rules)
        assert "\n" not in str(raised.value)
    first = f"{circuit.nodes[circuit.edges[0].source]} -> {circuit.nodes[circuit.edges[0].target]}"
    unused = made[0].tokenizer.eot
    with pytest.raises(ConfigError, match="selects none of the tokens of the 16 test pairs"):
        run.readings(circuit, {first: [unused]})
    with pytest.raises(ConfigError, match="rules are of the edges of one circuit, and there are 0"):
        read_edges(run, [], config.readings, {first: [1]})
    with pytest.raises(CircuitError, match="holds no such circuit"):
        run.readings(dataclasses.replace(circuit, nodes=circuit.nodes[1:]))
    with pytest.raises(TaskError, match="32 different test pairs"):
        many = dataclasses.replace(READINGS, pairs=41)
        dataclasses.replace(run, config=dataclasses.replace(config, readings=many)).readings(circuit)
    monkeypatch.setattr(readings, "MOST_EDGES", 3)
    with pytest.raises(TaskError, match="edges, more than 3, which are too many to be read one by one"):
        run.readings(circuit)
    assert not place(run).exists()


@pytest.mark.parametrize("ablation", ["resample", "counterfactual"])
def test_a_circuit_calibrated_under_values_of_other_prompts_is_refused(run, monkeypatch, ablation):
    """Its edges were read with everything else at corpus means, by a calibration of something else."""
    (circuit,) = run.circuits
    dataclasses.replace(circuit, ablation=ablation).save(place(run, ""))
    monkeypatch.setattr(EdgeReader, "effect", None)
    refusal = f"{TASK} was pruned under {ablation} ablation, which .* not know; prune it under one of mean"
    for examine in (run.readings, run.audit):
        with pytest.raises(TaskError, match=refusal) as raised:
            examine(*run.circuits)
        assert "\n" not in str(raised.value)


def test_readings_of_before_say_their_ablation_too(run):
    (circuit,) = run.circuits
    written = json.loads(place(run).read_text())
    assert written.pop("ablation") == "zero"
    place(run).write_text(json.dumps(written))
    report = run.readings(circuit)
    assert report.report["ablation"] == "zero" and "under zero ablation" in repr(report)


@pytest.mark.slow
def test_a_circuit_of_before_edges_were_removed_is_read_too(run, monkeypatch):
    """It has no means of what attention makes of values, which are taken anew."""
    (circuit,) = run.circuits
    means = {site: mean for site, mean in circuit.means.items() if not site.endswith("attn.y")}
    expected = run.readings(circuit).rows
    dataclasses.replace(circuit, means=means).save(place(run, ""))
    monkeypatch.setattr(readings, "reference_windows", lambda *rest: None)
    run = dataclasses.replace(run, prepared=object())
    assert run.readings(run.circuits[0]).rows == expected  # its reference is zero


def test_the_command_prints_the_best_first_and_a_row_a_circuit(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "load_workdir", lambda *rest: run)
    monkeypatch.setattr(command.setting_flags, "run_config", lambda folder: run.whole_config)
    with flagsaver.flagsaver():
        command.define_flags()
        flags.FLAGS(["readings", f"--workdir={tmp_path}"])
        command.main()
    out = capsys.readouterr().out
    (report,) = read_edges(run, find_subjects(run, ["all"], run.whole_config.audit), READINGS)[0].values()
    edges = [f"{row['source']} -> {row['target']}" for row in report.rows if row["passes"] is not None]
    assert [line.split("  ")[0] for line in out.splitlines() if " -> " in line] == edges
    assert str(place(run)) in out
    head, row = out.splitlines()[-2:]
    assert head.split() == ["task", "ablation", "edges", "weak", "judged", "passed", "share"]
    assert row.split()[:3] == [TASK, "zero", str(len(report.rows))]

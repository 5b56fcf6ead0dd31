"""Which pairs an audit judges by: never one that pruning learnt or chose by."""

import dataclasses
import json
import types

import pytest

from circuits_jax.circuits.audit import records
from circuits_jax.circuits.audit.records import measured_folder
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.config import AuditConfig, PruneConfig
from circuits_jax.runs import auditing
from circuits_jax.runs.audit_tables import those_that_show
from circuits_jax.runs.auditing import AuditSubject, RunAuditor
from circuits_jax.runs.pruning import task_splits
from circuits_jax.storage import notices
from circuits_jax.storage.errors import TaskError
from circuits_jax.tasks import load_task
from tests.tasks.word_tokenizer import WordTokenizer
from tests.viewer.test_audit_page import REPORT

PRUNE = PruneConfig(train_pairs=8, select_pairs=8, test_pairs=8)
RUN = types.SimpleNamespace(
    tokenizer=WordTokenizer(),
    model=types.SimpleNamespace(config=types.SimpleNamespace(n_ctx=64)),
    corpus=types.SimpleNamespace(hash="corpus"),
)


def row(number, split):
    start = f"cost = $ {number} and a b c d e f "
    return {"a": start + "x (", "b": start + "y (", "answer_a": "one)", "answer_b": "two)", "split": split}


@pytest.fixture
def task(tmp_path):
    """40 lines of each split; 20 of those to be tested with are lines of the others, too."""
    path = tmp_path / "mine.jsonl"
    numbers = {
        "train": range(40),
        "select": range(50, 90),
        "test": [*range(10), *range(50, 60), *range(100, 120)],
    }
    path.write_text("\n".join(json.dumps(row(n, split)) for split, each in numbers.items() for n in each))
    return load_task(path)


@pytest.fixture
def examine(task, monkeypatch):
    """The pairs that a circuit with such digests of its pairs is judged by, under such settings."""
    judged = []

    def audit(circuit, train, test, natural, advance):
        judged.append((train, test))
        return {}

    monkeypatch.setattr(RunAuditor, "_auditor", lambda self, prune: types.SimpleNamespace(audit=audit))
    monkeypatch.setattr(RunAuditor, "_natural", lambda self, pairs: "no corpus")
    monkeypatch.setattr(auditing, "verdict_of", lambda *rest: Verdict("not shown"))

    def of(digests, counts=("select_pairs", "test_pairs"), **settings):
        provenance = {"prune": dict.fromkeys(counts, 8), "pairs": digests}
        circuit = Circuit("mine", (), (), (), {}, "mean", (), (), None, {}, {}, "", "", provenance=provenance)
        subject = AuditSubject(task, circuit, PRUNE, "key")
        RunAuditor(RUN, AuditConfig(**settings), controls=False).examine(subject)
        return judged[-1]

    return of


@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_an_audit_keeps_lies_where_its_report_goes(elsewhere, tmp_path, monkeypatch):
    kept, home = [], tmp_path / "home" if elsewhere else None
    monkeypatch.setattr(RunAuditor, "_auditor", lambda self, prune: None)
    monkeypatch.setattr(auditing, "curves_and_tests", lambda *rest: {})
    monkeypatch.setattr(auditing, "keep_in", kept.append)
    run = types.SimpleNamespace(folder=tmp_path / "run", corpus=RUN.corpus)
    auditor = RunAuditor(run, AuditConfig(), "quick", home)
    auditor._against_others(AuditSubject(None, None, PRUNE, "key"), None, None)
    assert kept == [(home or run.folder) / "circuits" / ".measured" / measured_folder("key", "corpus")]


def test_what_an_earlier_version_measured_is_measured_anew(monkeypatch):
    now = measured_folder("key", "corpus")
    monkeypatch.setattr(records, "VERSION", records.VERSION + 1)
    assert measured_folder("key", "corpus") != now


@dataclasses.dataclass
class Verdict:
    verdict: str


def texts(pairs):
    return {frozenset(each) for each in pairs.texts}


def test_no_pair_is_judged_by_that_was_learnt_or_chosen_by(task, examine):
    splits = task_splits(RUN, task, PRUNE)
    train, test = examine([pairs.digest for pairs in splits], pairs=24)
    assert train.digest == splits.train.digest
    assert not texts(test) & (texts(splits.train) | texts(splits.select))
    assert len(texts(test)) == 24


def test_too_few_lines_are_told(task, examine):
    splits = task_splits(RUN, task, PRUNE)
    seen = texts(splits.train) | texts(splits.select) | texts(splits.test)
    lines = {frozenset(template.prompts) for template in task.templates["test"]}
    left = 40 - len({frozenset(p.replace("$$", "$") for p in line) for line in lines} & seen)
    assert 10 <= left <= 40 - len(texts(splits.test))
    digests = [pairs.digest for pairs in splits]
    examine(digests, pairs=left)
    with pytest.raises(TaskError, match=f"only {left} different test pairs .* that pruning has not seen"):
        examine(digests, pairs=left + 1)


def test_a_circuit_of_two_splits_was_chosen_by_test_pairs(task, examine):
    splits = task_splits(RUN, task, PRUNE)
    _, test = examine(["other", "pairs"], ["heldout_pairs"], pairs=20)
    assert not texts(test) & (texts(splits.train) | texts(splits.test))
    with pytest.raises(TaskError, match="are not those that its circuit was cut on"):
        examine(["other", "pairs", "now"], pairs=20)


@pytest.mark.parametrize("part", ["verdict", "circuit", "references", "controls", "completeness", "natural"])
def test_a_damaged_audit_costs_itself_alone_and_is_told(tmp_path, part, capsys):
    whole, path = REPORT | {"settings": {"confidence": 0.95}}, tmp_path / "audit.json"
    path.write_bytes(b"as it was")
    for damaged in (3, "x", [1], {"a": None}):
        kept = those_that_show({"a": whole, "b": whole | {part: damaged}, "c": {}}, path)
        assert kept == {"a": whole}
    notices.tell()
    assert "audit.json: the audit of b, c is damaged and is left out; audit it" in capsys.readouterr().err
    assert [each.read_bytes() for each in tmp_path.glob("*.damaged*")] == [b"as it was"]
    path.write_bytes(b"and later")
    those_that_show({"b": {}}, path)
    assert (tmp_path / "audit.json.damaged+").read_bytes() == b"and later" == path.read_bytes()


@pytest.mark.parametrize("choice", ["none", "quick", "full"])
@pytest.mark.parametrize(("trials", "seeds", "times"), [(1, 1, 1), (1, 3, 3), (4, 2, 6)])
def test_what_a_wider_search_costs_is_told_before_anything_starts(
    task, tmp_path, monkeypatch, capsys, choice, trials, seeds, times
):
    told = []

    def examine(auditor, subject, advance):
        told.append(capsys.readouterr().err)
        raise TaskError("later")

    monkeypatch.setattr(RunAuditor, "examine", examine)
    prune = dataclasses.replace(PRUNE, trials=trials, seeds=seeds, steps=100)
    run = types.SimpleNamespace(folder=tmp_path / "run", name="mine")
    subjects = [AuditSubject(task, None, prune, "key")]
    assert auditing.audit(run, subjects, AuditConfig(), choice) == ({}, {"mine": "later"})
    (before,) = told
    cost = f"{trials} trials of {seeds} seeds; its controls are searched alike and take about {times} times"
    assert (cost in before) == ("note:" in before) == (choice != "none" and times > 1)


@pytest.mark.parametrize("choice", ["quick", "full"])
def test_a_task_whose_controls_cannot_be_built_is_refused_before_any_work(tmp_path, monkeypatch, choice):
    rows = [row(number, ("train", "select", "test")[number % 3]) for number in range(90)]
    for each in rows[:45]:
        each["answer_b"] = "three)"
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    circuit = Circuit("mine", (), (), (), {}, "mean", (), (), None, {}, {}, "", "", provenance={})
    monkeypatch.setattr(RunAuditor, "_auditor", None)
    auditor = RunAuditor(RUN, AuditConfig(pairs=16), choice)
    with pytest.raises(TaskError, match="have 3 different answer tokens.*--controls=none") as raised:
        auditor.examine(AuditSubject(load_task(path), circuit, PRUNE, "key"))
    assert "\n" not in str(raised.value)

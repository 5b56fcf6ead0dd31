"""The audit as a command, on a model that learned nothing: what it writes, reuses and refuses."""

import dataclasses
import json
import types

import jax
import pytest

from circuits_jax.circuits.audit.controls.kinds import FIELDS, SEARCHED
from circuits_jax.circuits.audit.records import FORMAT, VERSION, earlier_reports
from circuits_jax.config import AuditConfig, PruneConfig, to_dict
from circuits_jax.data.programs.generator import corpus_words, generate_programs
from circuits_jax.data.programs.words import WORDS
from circuits_jax.runs import auditing
from circuits_jax.runs.auditing import RunAuditor, audit, find_subjects
from circuits_jax.runs.opening import load_workdir
from circuits_jax.runs.own_tasks import keep_pairs
from circuits_jax.runs.pages import _audits
from circuits_jax.storage import notices
from circuits_jax.storage.errors import CircuitError, ConfigError, MemoryLackError, TaskError, UserError
from circuits_jax.tasks import load_recorded
from circuits_jax.viewer.verdicts import read_audits
from tests.experiments.circuits import every_third_node
from tests.experiments.command import TINY, finish, start

TASK = "digits"
AUDIT = (
    *("--config.audit.pairs=16", "--config.audit.draws=2", "--config.audit.natural=8"),
    "--config.audit.seeds=1",
)
PRUNE = PruneConfig(steps=2, batch_pairs=8, train_pairs=8, select_pairs=8, test_pairs=8, mean_batches=1)


def digit_pairs():
    """Pairs that any tokenizer keeps: which digit was assigned.  There are 40 of each split."""
    for number in range(120):
        a, b = (
            f"x = {digit}\ny = x, 0, {number // 100}, {number // 10 % 10}, {number % 10}\nassert x == "
            for digit in "12"
        )
        split = ("train", "select", "test")[number % 3]
        yield {"a": a, "b": b, "answer_a": "1\n", "answer_b": "2\n", "split": split}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a trained run in `run`."""
    place = tmp_path_factory.mktemp("audit")
    words = [word for kinds in WORDS["train"].values() for word in kinds if word.islower()]
    held_out = "\n".join(
        f"{word} = {word}"
        for split in ("select", "test")
        for kinds in WORDS[split].values()
        for word in kinds
    )
    (place / f"{TASK}.jsonl").write_text("\n".join(map(json.dumps, digit_pairs())))
    (place / "tree").mkdir()
    for number, text in enumerate(generate_programs(corpus_words(words), seed=0, count=60)):
        (place / "tree" / f"{number}.py").write_text(text + held_out + "\n" * number)
    flags = (
        *TINY,
        *("--config.model.n_ctx=64", "--config.model.vocab_size=1400", "--config.train.steps=4"),
        *("--config.train.eval_every=4", "--config.train.checkpoint_every=4", "--config.data.seed=1"),
        f"--config.data.roots={place / 'tree'}",
    )
    code, _, errors = finish(start(place / "programs", "pretrain", *flags, f"--workdir={place / 'run'}"))
    assert code == 0, errors
    return place


@pytest.fixture(scope="module")
def circuit(place):
    """Of the run's model."""
    made = every_third_node(load_workdir(place / "run"), TASK, dataclasses.replace(PRUNE, ablation="zero"))
    at_chance = {"full/select/calibrated_loss": 0.693}
    return dataclasses.replace(
        made, metrics=at_chance, provenance={**made.provenance, "mediocre_model": True}
    )


def run_audit(place, *flags):
    return finish(start(place / "programs", "audit", "--cpu_devices=1", f"--workdir={place / 'run'}", *flags))


def elsewhere(place, workdir):
    """The run, with `workdir` as the folder whose circuits are audited."""
    return dataclasses.replace(load_workdir(place / "run"), workdir=workdir)


def mine(place):
    """The flag that names the task of the user's own."""
    return f"--tasks={place / TASK}.jsonl"


def test_without_circuits_there_is_nothing_to_audit(place):
    code, _, errors = run_audit(place)
    assert code == 1 and len(errors) == 1
    assert "holds no circuits" in errors[0] and "python -m circuits_jax prune" in errors[0]


@pytest.fixture(scope="module")
def first(place, circuit):
    """The first audit's exit code, output and errors, and what it wrote."""
    circuit.save(place / "run" / "circuits" / TASK)
    code, out, errors = run_audit(place, mine(place), *AUDIT)
    assert code == 0, errors
    return out, errors, json.loads((place / "run" / "audit.json").read_text())


def test_a_circuit_of_a_model_at_chance_is_not_shown_and_its_quick_controls_are_there(first, circuit):
    """That all of its nodes are kept by chance is possible; that a control is all edges, too."""
    out, errors, written = first
    assert TASK in out and "not shown" in out
    (row,), report = written["rows"], written["tasks"][TASK]
    assert row["verdict"] == report["verdict"]["verdict"] == "not shown"
    assert report["model"]["flag"] == row["model"] == "at chance"
    controls, masks = report["controls"], circuit.masks()
    assert (controls["choice"], controls["target"]) == ("quick", PRUNE.target)
    kinds = {each["kind"] for each in controls["rows"]}
    assert kinds == {*SEARCHED, "moved"}
    everything = sum(len(mask) for mask in masks.values())
    for control in controls["rows"]:
        assert control.keys() >= FIELDS
        if control["outcome"] == "missed" and control["kind"] != "moved":
            # All edges of its model: as many nonzeros as the audited one has.
            assert control["nodes"] == everything and control["edges"] >= report["circuit"]["edges"]
    missed = [row for row in controls["rows"] if row["outcome"] == "missed" and row["kind"] != "moved"]
    assert len({row["edges"] for row in missed}) <= 1
    memorised = [each["pairs"] for each in controls["rows"] if each["kind"] == "memorised"]
    assert memorised == [8]  # there are no more
    assert report["circuit"]["nodes"] == len(circuit.nodes)
    assert written["settings"]["pairs"] == report["pairs"] == 16


def test_the_page_is_there(first, place):
    page = (place / "run" / "audit.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and TASK in page and "not shown" in page


def test_a_finished_audit_is_not_done_again(first, place):
    code, out, errors = run_audit(place, mine(place), *AUDIT, "--controls=false")
    assert code == 0, errors
    assert json.loads((place / "run" / "audit.json").read_text()) == first[2]


def test_an_unknown_choice_of_controls_is_one_line(place):
    code, _, errors = run_audit(place, mine(place), "--controls=fast")
    assert code == 1 and errors == ["error: controls is 'fast'; choose one of none, quick, full"]


def test_too_few_pairs_are_said_in_the_table(first, place):
    code, _, errors = run_audit(place, mine(place), *AUDIT[1:], "--config.audit.pairs=41")
    assert code == 0, errors
    (row,) = json.loads((place / "run" / "audit.json").read_text())["rows"]
    assert row["task"] == TASK and "\n" not in row["refused"]
    assert "32 different test pairs under this tokenizer that pruning has not seen" in row["refused"]


def test_earlier_audits_stay_in_the_file_and_on_the_page(place, circuit, tmp_path, monkeypatch):
    """Of other tasks, with other settings, and without controls; not those of circuits that were cut anew."""
    run, reports = elsewhere(place, tmp_path), {}
    for task in ("with_as", "var_if", "if_ternary"):
        prune = to_dict(dataclasses.replace(PRUNE, tasks=(task,)))
        dataclasses.replace(circuit, task=task, provenance={"prune": prune}).save(
            tmp_path / "circuits" / task
        )

    def examine(auditor, subject, advance):
        if subject.task.name == "if_ternary":
            raise TaskError("too few")
        made = json.loads((place / "run" / "audit.json").read_text())["tasks"][TASK]
        controls = None if auditor._choice == "none" else made["controls"]
        return made | {"key": subject.key, "controls": controls}

    monkeypatch.setattr(RunAuditor, "examine", examine)
    for task, pairs, controls in (("with_as", 16, True), ("if_ternary", 17, True), ("var_if", 17, False)):
        config = AuditConfig(pairs=pairs)
        reports, refusals = audit(run, find_subjects(run, [task], config), config, controls)
        assert [*reports, *refusals] == [task]
    written, page = json.loads((tmp_path / "audit.json").read_text()), (tmp_path / "audit.html").read_text()
    assert [row["task"] for row in written["rows"]] == ["with_as", "var_if", "if_ternary"]
    assert [written["tasks"][task]["settings"]["pairs"] for task in ("with_as", "var_if")] == [16, 17]
    assert all(page.count(task) for task in ("with_as", "var_if", "if_ternary"))
    folders = [tmp_path / "circuits" / task for task in ("with_as", "var_if")]
    assert set(read_audits(tmp_path / "audit.json", folders)) == {"with_as", "var_if"}
    dataclasses.replace(circuit, task="with_as", metrics={"nodes": 1}).save(folders[0])
    audit(run, find_subjects(run, ["var_if"], config), config, False)
    assert list(json.loads((tmp_path / "audit.json").read_text())["tasks"]) == ["var_if"]


def test_an_unknown_task_and_one_without_circuit_are_refused(first, place):
    for task, words in (
        ("brackets", "unknown task"),
        ("with_as", f"holds no circuit of with_as, only of {TASK}"),
    ):
        code, _, errors = run_audit(place, f"--tasks={task}")
        assert code == 1 and len(errors) == 1 and words in errors[0], errors


def test_a_circuit_of_another_model_is_refused(place, circuit):
    other = dataclasses.replace(circuit, model_hash="0" * 64)
    other.save(place / "run" / "circuits" / TASK)
    code, _, errors = run_audit(place, mine(place))
    circuit.save(place / "run" / "circuits" / TASK)
    assert code == 1 and len(errors) == 1 and "belongs to model 000000000000" in errors[0]


def test_circuits_of_tasks_of_the_users_own_are_audited_with_all_others(place, circuit, tmp_path):
    run = elsewhere(place, tmp_path)
    file = str(place / f"{TASK}.jsonl")
    prune = dataclasses.replace(PRUNE, tasks=("with_as", file))
    dataclasses.replace(circuit, provenance={"prune": to_dict(prune)}).save(tmp_path / "circuits" / TASK)
    for names in (["all"], [TASK], [file]):
        (subject,) = find_subjects(run, names, AuditConfig())
        assert subject.task.name == TASK and len(subject.task.templates["train"]) == 40
    with pytest.raises(ConfigError, match="no task is named"):
        find_subjects(run, [], AuditConfig())
    circuit.save(tmp_path / "circuits" / TASK)
    with pytest.raises(TaskError, match="'digits' is not built in, and its file is not there"):
        find_subjects(run, ["all"], AuditConfig())
    keep_pairs(load_recorded(file, None), tmp_path / "circuits" / TASK)  # as pruning does
    (subject,) = find_subjects(run, ["all"], AuditConfig())
    assert len(subject.task.templates["train"]) == 40
    kept = tmp_path / "circuits" / TASK / f"{TASK}.jsonl"
    assert subject.task.file == str(kept)
    dataclasses.replace(circuit, provenance={"prune": to_dict(prune)}).save(tmp_path / "circuits" / TASK)
    (subject,) = find_subjects(run, ["all"], AuditConfig())
    assert subject.task.file == file  # where the user has it, and may have edited it since


@pytest.mark.parametrize("said", [None, False, True])
def test_a_circuit_is_audited_by_searches_like_its_own(place, circuit, tmp_path, said):
    """One of before files said so was searched by training pairs alone."""
    run, values = elsewhere(place, tmp_path), to_dict(PRUNE) | {"tasks": [str(place / f"{TASK}.jsonl")]}
    values = {key: value for key, value in values.items() if key != "hold_select"}
    if said is not None:
        values["hold_select"] = said
    dataclasses.replace(circuit, provenance={"prune": values}).save(tmp_path / "circuits" / TASK)
    (subject,) = find_subjects(run, [TASK], AuditConfig())
    assert subject.prune.hold_select is bool(said)


@pytest.mark.parametrize("prune", [None, 3, {"hold_select": "yes"}])
def test_settings_of_a_circuit_that_are_none_are_one_line(place, circuit, tmp_path, prune):
    run = elsewhere(place, tmp_path)
    dataclasses.replace(circuit, provenance={"prune": prune}).save(tmp_path / "circuits" / TASK)
    with pytest.raises(UserError, match="prune"):
        find_subjects(run, [TASK], AuditConfig())


def test_of_all_circuits_those_that_cannot_be_audited_are_left_out_which_is_told(
    place, circuit, tmp_path, capsys
):
    """One of a Python file that is not named, a damaged one, one of another model, one that tells nothing."""
    run, prune = elsewhere(place, tmp_path), dataclasses.replace(PRUNE, tasks=(str(tmp_path / "mine.py"),))
    of_program = dataclasses.replace(circuit, task="mine", provenance={"prune": to_dict(prune)})
    of_program.save(tmp_path / "circuits" / "mine")
    with pytest.raises(TaskError, match="run only if you name them"):
        find_subjects(run, ["all"], AuditConfig())
    for name, odd in (("other", {"model_hash": "0" * 64}), ("silent", {"provenance": {}}), ("with_as", {})):
        dataclasses.replace(circuit, task=name, **odd).save(tmp_path / "circuits" / name)
    (tmp_path / "circuits" / "cut").mkdir()
    (tmp_path / "circuits" / "cut" / "circuit.json").write_text('{"format":')
    notices.tell()
    capsys.readouterr()
    for names in (["all"], ["all", "with_as"], ["with_as", "with_as"]):
        assert [subject.task.name for subject in find_subjects(run, names, AuditConfig())] == ["with_as"]
    notices.tell()
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0].split()[-1] for line in told] == ["cut", "mine", "other", "silent"]
    for names, words in ((["all", "cut"], "cut short"), (["all", "for_while"], "no circuit of for_while")):
        with pytest.raises(CircuitError, match=words):
            find_subjects(run, names, AuditConfig())


def test_an_audit_of_a_run_that_cannot_be_written_goes_to_another_folder(
    place, circuit, tmp_path, monkeypatch
):
    home, run = tmp_path / "home", elsewhere(place, tmp_path / "run")
    known = {"prune": to_dict(dataclasses.replace(PRUNE, tasks=("with_as",)))}
    dataclasses.replace(circuit, task="with_as", provenance=known).save(run.folder / "circuits" / "with_as")
    subjects, before = find_subjects(run, ["all"], AuditConfig()), sorted(run.folder.rglob("*"))
    report = {"verdict": {"verdict": "faithful"}, "controls": None}
    examined = []

    def examine(auditor, subject, advance):
        examined.append(subject.task.name)
        return report | {"key": subject.key}

    monkeypatch.setattr(RunAuditor, "examine", examine)
    monkeypatch.setattr(auditing, "those_that_show", lambda reports, path: reports)
    monkeypatch.setattr(auditing, "audit_table", lambda reports, refusals: [])
    monkeypatch.setattr(auditing, "build_audit_page", lambda *rest: "a page")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to .*/file: Not a directory; .* --out=DIR"):
        audit(run, subjects, AuditConfig(), False, tmp_path / "file" / "below")
    assert examined == []
    for _ in range(2):  # what was audited is not audited again
        assert list(audit(run, subjects, AuditConfig(), False, home)[0]) == ["with_as"]
    assert examined == ["with_as"] and sorted(run.folder.rglob("*")) == before
    assert (home / "audit.html").read_text() == "a page"
    assert set(_audits(run, home, run.circuit_folders)) == {"with_as"}
    assert _audits(run, run.folder, run.circuit_folders) == {}


def test_a_circuit_cut_on_other_pairs_of_its_task_is_refused(place, circuit, tmp_path):
    run = elsewhere(place, tmp_path)
    prune = dataclasses.replace(PRUNE, tasks=(str(place / f"{TASK}.jsonl"),))
    known = {"prune": to_dict(prune), "pairs": ["0" * 64, "0" * 64]}
    dataclasses.replace(circuit, provenance=known).save(tmp_path / "circuits" / TASK)
    (subject,) = find_subjects(run, ["all"], AuditConfig())
    with pytest.raises(TaskError, match="not those that its circuit was cut on"):
        RunAuditor(run, AuditConfig(), controls=False).examine(subject)


@pytest.mark.parametrize("more", [{}, {"tasks": []}, {"tasks": {TASK: 5}}, {"tasks": {TASK: {}}}])
def test_an_audit_file_that_lacks_something_counts_as_none(circuit, more, tmp_path):
    circuit.save(tmp_path / "circuits" / TASK)
    (tmp_path / "audit.json").write_text(json.dumps({"format": FORMAT, "version": VERSION, **more}))
    assert earlier_reports(tmp_path / "audit.json", tmp_path / "circuits", AuditConfig()) == {}


@pytest.mark.slow
def test_tasks_are_listed_with_a_checkpoint_and_without_one(place, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes((place / "run" / "tokenizer.model").read_bytes())
    unequal = (json.dumps(pair | {"a": f"x = 1\n{pair['a']}"}) for pair in digit_pairs())
    (tmp_path / "unequal.jsonl").write_text("\n".join(unequal))
    flags = (f"--tasks={place / TASK}.jsonl,{tmp_path / 'unequal.jsonl'}", "--pairs=40", "--cpu_devices=1")
    rows = []
    for workdir in (place / "run", tmp_path):
        code, out, errors = finish(start(place / "programs", "tasks", f"--workdir={workdir}", *flags))
        assert (code, errors) == (0, []) and "A  'x = 1\\ny = x, 0" in out, errors
        rows.append(json.loads((workdir / "tasks.json").read_text())["rows"])
    with_model, without = (row for row, _ in rows)
    assert {"loss", "accuracy", "bigram alone"} == set(with_model) - set(without)
    assert with_model == without | {key: with_model[key] for key in ("loss", "accuracy", "bigram alone")}
    assert without["survived"] == 1 and without["answers"] == "'1' or '2'"
    assert all("differ in length" in refused["refused"] for _, refused in rows)


def test_a_device_without_the_memory_for_an_audit_is_one_line(tmp_path, monkeypatch):
    def examine(*args):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9663676416 bytes.")

    monkeypatch.setattr(auditing, "_audit", examine)
    with pytest.raises(MemoryLackError, match="9 GiB asked for.*audit.pairs"):
        audit(types.SimpleNamespace(folder=tmp_path), [], AuditConfig())

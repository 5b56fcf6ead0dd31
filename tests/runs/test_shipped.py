"""The model that comes with the library: made from a run, opened, drawn, and refused where it cannot be."""

import dataclasses
import functools
import gzip
import json
import re
import shutil
import stat
import time

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

import circuits_jax as cj
from circuits_jax import released
from circuits_jax.circuits.audit.records import earlier_reports
from circuits_jax.circuits.circuit import load_circuit
from circuits_jax.circuits.readings.records import read_readings
from circuits_jax.commands import ship as ship_command
from circuits_jax.commands import view
from circuits_jax.data.programs.words import UNSEEN_WORDS
from circuits_jax.runs import opening, pages, shipping
from circuits_jax.runs.model_card import model_card
from circuits_jax.runs.shipped import FOLDER, RECORD, load_shipped
from circuits_jax.runs.shipping import MOST_BYTES, ship
from circuits_jax.storage.filenames import AUDIT
from circuits_jax.tasks.withheld import spells_withheld
from circuits_jax.training.checkpoints import newest
from circuits_jax.viewer.circuit_page.kept import kept_evidence
from tests.runs.tiny_shipped import REFUSED, TASK, make_run
from tests.training.tiny import assert_equal
from tests.viewer.test_assembly import data_of

THERE = (FOLDER / RECORD).exists()
real = pytest.mark.skipif(not THERE, reason="circuits_jax/shipped holds no model yet")


WINDOWS = {"validation": 24, "train": 40}


@pytest.fixture(scope="module", autouse=True)
def few_windows():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shipping, "WINDOWS", WINDOWS)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("shipping"))


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    """The folder of a tiny shipped model."""
    return ship(run, tmp_path_factory.mktemp("package") / "shipped").folder


@pytest.fixture
def opened(folder, tmp_path, monkeypatch):
    """`cj.load` with that folder in place of the package's, from a folder of one's own."""
    monkeypatch.setattr(opening, "load_shipped", functools.partial(load_shipped, folder=folder))
    monkeypatch.chdir(tmp_path)
    return folder


def files(place):
    return {str(p.relative_to(place)): p.read_bytes() for p in sorted(place.rglob("*")) if p.is_file()}


def test_it_is_the_runs_model_with_its_circuits_and_nothing_is_written(run, opened, tmp_path):
    before = files(opened)
    found = cj.load("shipped")
    assert found.model.hash == run.model.hash and found.name == "shipped"
    assert_equal(found.model.params, run.model.params)
    assert found.tokenizer.hash == run.tokenizer.hash
    assert [circuit.identity for circuit in found.circuits] == [circuit.identity for circuit in run.circuits]
    assert found.score(cj.TASKS[TASK], pairs=8) == run.score(cj.TASKS[TASK], pairs=8)
    assert "1 circuit)" in repr(found) and TASK in found._repr_html_()
    assert found.config.prune == run.config.prune and found.config.train == run.config.train
    assert list(tmp_path.iterdir()) == [] and files(opened) == before


def test_circuits_keep_what_pages_show(run, folder):
    (ours,), (shipped,) = run.circuits, load_shipped(folder=folder).circuits
    assert shipped.taus is None and shipped.importance.attribution == {}
    assert shipped.importance.node_deltas.tolist() == ours.importance.node_deltas.tolist()
    assert shipped.provenance["prune"]["tasks"] == [TASK]  # and not a file of the user's
    for name in ("nodes", "edges", "calibration", "metrics", "embedding", "unembedding", "model_hash"):
        assert getattr(shipped, name) == getattr(ours, name), name
    assert all(np.array_equal(shipped.means[site], mean) for site, mean in ours.means.items())


def test_evidence_is_of_programs_that_nobody_wrote(run, folder):
    found = load_shipped(folder=folder).corpus
    assert found.hash != run.corpus.hash
    for split, count in WINDOWS.items():
        assert count <= len(getattr(found, split)) < count + 12  # whole programs
    ours = {row.tobytes() for row in run.corpus.train.rows(slice(None))}
    for split in (found.train, found.validation):
        rows = split.rows(slice(None))
        assert rows.max() < run.model.config.vocab_size and not ours & {row.tobytes() for row in rows}
        text = "".join(run.tokenizer.pieces(rows.ravel().tolist()))
        assert not UNSEEN_WORDS & set(text.replace("_", " ").split(" ")) and "def " in text
        assert not spells_withheld(text[text.index("\n") : text.rindex("\n")])
    assert not np.array_equal(found.train.rows(slice(24)), found.validation.rows(slice(24)))


def test_the_same_run_gives_the_same_bytes_in_place_of_what_was_there(run, folder, tmp_path, capsys):
    again = shutil.copytree(folder, tmp_path / "shipped")
    (again / "left over").write_text("x")
    called(ship_command, f"--workdir={run.folder}", f"--out={again}")
    assert files(again) == files(folder) and list(tmp_path.iterdir()) == [again]
    told = capsys.readouterr().out
    for name, content in files(folder).items():
        assert f"{name} " in told and f"{len(content):,}" in told
    with pytest.raises(cj.UserError, match="give --out"):
        called(ship_command, f"--workdir={run.folder}")


def test_stories_ship_and_can_be_told_anew_without_the_run(run, folder, opened, tmp_path):
    name = f"circuits/{TASK}/story.json"
    told = json.loads((run.folder / name).read_text())
    assert json.loads((folder / "run" / name).read_text()) == told
    assert f"| `{TASK}` | part | not measured |" in (folder / "MODEL_CARD.md").read_text("utf-8")
    workdir, again = cj.load("shipped").folder, shutil.copytree(folder, tmp_path / "again" / "shipped")
    assert json.loads((workdir / name).read_text()) == told
    (workdir / name).write_text(json.dumps(told | {"title": "Told anew"}))
    called(ship_command, "--stories", f"--workdir={workdir}", f"--out={again}")
    load_shipped(folder=again)
    assert json.loads((again / "run" / name).read_text())["title"] == "Told anew"
    before, after = files(folder), files(again)
    assert {each for each in after if after[each] != before.get(each)} <= {
        f"run/{name}",
        RECORD,
        "MODEL_CARD.md",
    }
    complete = files(again)
    for fields, words in (
        ({"circuit": "00000000"}, "story.json: the story is of circuit '00000000'"),
        ({"title": f"See {workdir}"}, "story.json names the folder .* of this machine"),
    ):
        (workdir / name).write_text(json.dumps(told | fields))
        with pytest.raises(cj.UserError, match=words):
            called(ship_command, "--stories", f"--workdir={workdir}", f"--out={again}")
    (workdir / name).write_text(json.dumps(told))
    with pytest.raises(cj.UserError, match=r"would take [\d,]+ bytes, and 1,000 are allowed"):
        shipping.ship_told(workdir, again, most=1000)
    assert files(again) == complete and list(again.parent.iterdir()) == [again]
    (workdir / name).unlink()
    called(ship_command, "--stories", f"--workdir={workdir}", f"--out={again}")
    assert not (again / "run" / name).exists() and "Stories" not in (again / "MODEL_CARD.md").read_text(
        "utf-8"
    )
    assert load_shipped(folder=again).circuits[0].task == TASK
    with pytest.raises(cj.UserError, match=r"run is no workdir of the model \w{12} in .*shipped; name"):
        called(ship_command, "--stories", f"--workdir={run.folder}", f"--out={again}")


def test_audits_made_in_a_workdir_of_the_shipped_model_ship_alone(folder, opened, tmp_path):
    found, again = cj.load("shipped"), shutil.copytree(folder, tmp_path / "again" / "shipped")
    audit = found.folder / AUDIT
    whole = json.loads(audit.read_text())
    whole["tasks"][TASK]["corpus"] = found.corpus.hash
    whole["tasks"][TASK]["verdict"]["verdict"] = "no better than the control"
    audit.write_text(json.dumps(whole))
    called(ship_command, "--audits", f"--workdir={found.folder}", f"--out={again}")
    before, after = files(folder), files(again)
    changed = {each for each in after if after[each] != before.get(each)}
    assert changed == {f"run/{AUDIT}", RECORD, "MODEL_CARD.md"}
    assert json.loads((again / RECORD).read_text())["verdicts"] == {TASK: "no better than the control"}
    card = (again / "MODEL_CARD.md").read_text("utf-8")
    assert "natural positions, and the means of other networks, from the generated programs." in card
    assert "were made on the run's own corpus" in (folder / "MODEL_CARD.md").read_text("utf-8")


def test_a_workdir_of_before_gets_the_stories_that_were_told_since(opened):
    found = cj.load("shipped")
    story, record = found.folder / "circuits" / TASK / "story.json", found.folder / RECORD
    told, known = story.read_text(), json.loads(record.read_text())
    story.unlink()
    assert not (found.folder / "circuits" / TASK / "story.json").exists()  # its owner took it away
    digests = {name: digest for name, digest in known["sha256"].items() if not name.endswith("story.json")}
    record.write_text(json.dumps(known | {"sha256": digests}))
    assert (found.folder / "circuits" / TASK / "story.json").read_text() == told
    assert json.loads(record.read_text()) == known
    story.write_text("mine")
    record.write_text(json.dumps(known | {"sha256": digests}))
    assert (found.folder / "circuits" / TASK / "story.json").read_text() == "mine"


def test_what_may_not_ship_is_refused_and_nothing_is_left(run, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shipping, "_scores", lambda run: {})
    with pytest.raises(
        cj.UserError, match=r"would take [\d,]+ bytes, and 1,000 are allowed; .* model/weights"
    ):
        ship(run, tmp_path / "out", most=1000)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(cj.UserError, match="mine holds something else than a shipped model"):
        ship(run, tmp_path / "mine")
    more = dataclasses.replace(run.config, train=dataclasses.replace(run.config.train, steps=99))
    with pytest.raises(cj.UserError, match="has trained 8 of 99 steps"):
        ship(dataclasses.replace(run, config=more), tmp_path / "out")
    own = shutil.copytree(run.folder, tmp_path / "run")
    circuit = dataclasses.replace(load_circuit(own / "circuits" / TASK), task="mine")
    circuit.save(own / "circuits" / "mine")
    with pytest.raises(cj.UserError, match="circuits/mine is of mine, a task of your own"):
        ship(cj.load(own), tmp_path / "out")
    shutil.rmtree(own / "circuits" / "mine")
    (own / "prune.json").write_text(
        json.dumps({"summary": {}, "rows": [{"task": "x", "refused": f"{own}/x"}]})
    )
    with pytest.raises(cj.UserError, match="prune.json names the folder .*/run of this machine"):
        ship(cj.load(own), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "run"]


def test_all_pages_are_drawn_into_a_workdir_from_a_folder_that_cannot_be_written(opened, tmp_path):
    for path in (opened, *opened.rglob("*")):  # a superuser may write all the same: files are compared too
        path.chmod(stat.S_IRUSR | (stat.S_IXUSR if path.is_dir() else 0))
    before = files(opened)
    try:
        page = cj.load("shipped").page()
    finally:
        for path in (opened, *opened.rglob("*")):
            path.chmod(stat.S_IRWXU)
    assert files(opened) == before
    workdir = tmp_path / "runs" / "shipped"
    assert page.path == workdir / "report.html"
    rows = {row["task"]: row["verdict"] for row in data_of(page.path.read_text("utf-8"))["rows"]}
    assert rows == {TASK: "not shown, close", REFUSED: "refused"}
    (shown,) = data_of((workdir / "circuits" / TASK / "page.html").read_text("utf-8"))["circuits"]
    assert shown["evidence"]["corpus"]["windows"] >= WINDOWS["validation"]
    assert len(shown["evidence"]["prompts"]) == 12
    assert shown["audit"]["verdict"]["verdict"] == "not shown" and shown["readings"]["rows"] == []
    assert "29 nodes and 39 edges" in (workdir / "audit.html").read_text("utf-8")
    assert all(path.stat().st_mode & stat.S_IWUSR for path in workdir.rglob("*"))


def test_evidence_that_is_kept_makes_the_page_that_is_gathered_anew(opened, monkeypatch):
    found = cj.load("shipped")
    kept = found.folder / "circuits" / TASK / "evidence.json.gz"
    with monkeypatch.context() as patch:
        patch.setattr(pages, "gather_evidence", lambda *_: pytest.fail("the model was run"))
        drawn = found.page(found.circuits[0]).content
    content = kept.read_bytes()
    for spoiled in (None, content[:-9], gzip.compress(b"[]"), gzip.compress(b'{"format": 3}')):
        kept.unlink(missing_ok=True)
        if spoiled is not None:
            kept.write_bytes(spoiled)
        assert kept_evidence(kept.parent, found.config.data.hash) is None
    assert found.page(found.circuits[0]).content == drawn
    kept.write_bytes(content)
    assert kept_evidence(kept.parent, found.config.data.hash)["nodes"]
    assert kept_evidence(kept.parent, "another corpus") is None
    moved = dataclasses.replace(found.circuits[0], metrics={"test/loss": 1.0})
    moved.save(kept.parent)
    assert kept_evidence(kept.parent, found.config.data.hash) is None


def test_its_workdir_is_one_like_any_other(run, opened, tmp_path):
    found = cj.load("shipped", workdir="mine")
    workdir = found.folder
    assert workdir == tmp_path / "mine" == cj.load("shipped", workdir="mine").folder
    again = cj.load("mine")
    assert again.model.hash == run.model.hash and again.corpus.hash == found.corpus.hash
    assert newest(workdir) == run.config.train.steps and again.config == found.config
    assert [c.identity for c in again.circuits] == [c.identity for c in run.circuits]
    settings = again.config.audit
    assert earlier_reports(workdir / "audit.json", workdir / "circuits", settings).keys() == {TASK}
    assert read_readings(workdir / "circuits" / TASK) is not None
    shutil.copytree(workdir / "circuits" / TASK, workdir / "circuits" / "another")
    assert len(found.circuit_folders) == 2


def test_another_run_in_the_workdir_is_left_alone_and_told(run, opened, tmp_path):
    shutil.copytree(run.folder, tmp_path / "runs" / "shipped")
    before = files(tmp_path)
    found = cj.load("shipped")
    assert len(found.circuits) == 1  # read from the package
    with pytest.raises(
        cj.UserError, match="holds a run that is not the shipped model's; name another"
    ) as told:
        found.page()
    assert "\n" not in str(told.value) and files(tmp_path) == before


def older(folder, place):
    """A shipped model of an earlier release: one weight is another; and its run's hash."""
    other = shutil.copytree(folder, place)
    model = released.load_sparse(other / "model")
    params = dict(model.params)
    params["ln_f"] = {"scale": params["ln_f"]["scale"] + 1}
    released.save_sparse(
        params, dataclasses.replace(model.config, bigram="learned"), other / "model", model.tokenizer
    )
    record = json.loads((other / RECORD).read_text())
    record["model"] = released.load_sparse(other / "model").hash
    record["sha256"] = {}
    (other / RECORD).write_text(json.dumps(record))
    return other, record["model"]


def test_what_belongs_to_the_model_of_another_release_is_told_with_both_hashes(run, opened, tmp_path):
    before, theirs = older(opened, tmp_path / "before")
    ours = run.model.hash
    assert ours != theirs
    shutil.rmtree(before / "run" / "circuits")
    load_shipped(folder=before, workdir="there").folder  # noqa: B018 - it is made
    with pytest.raises(cj.UserError) as told:
        cj.load("shipped", workdir="there").page()
    assert f"the shipped model of another release, {theirs[:12]}, and this release ships {ours[:12]}" in str(
        told.value
    )
    assert cj.load("there").model.hash == theirs
    (circuit,) = run.circuits
    kept = dataclasses.replace(circuit, model_hash=theirs)
    for use in (cj.load("shipped").page, lambda each: cj.load("shipped").score(cj.TASKS[TASK], circuit=each)):
        with pytest.raises(cj.UserError) as told:
            use(kept)
        assert theirs[:12] in str(told.value) and ours[:12] in str(told.value)
        assert "\n" not in str(told.value)


def test_an_install_without_the_model_or_with_a_damaged_one_says_so_in_one_line(folder, tmp_path):
    with pytest.raises(
        cj.UserError, match=r"no shipped model \(.*nowhere\); install circuits_jax again"
    ) as told:
        load_shipped(folder=tmp_path / "nowhere")
    assert "\n" not in str(told.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(cj.UserError, match="no shipped model"):
        load_shipped(folder=tmp_path / "empty")
    other = shutil.copytree(folder, tmp_path / "shipped")
    weights = other / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(cj.UserError, match="weights.safetensors was altered or cut short; install"):
        load_shipped(folder=other)
    weights.unlink()
    with pytest.raises(cj.UserError, match="weights.safetensors cannot be read"):
        load_shipped(folder=other)
    record = json.loads((other / RECORD).read_text())
    (other / RECORD).write_text(json.dumps(record | {"version": 2}))
    with pytest.raises(cj.UserError, match="version 2; this release reads 'circuits_jax.shipped', version 1"):
        load_shipped(folder=other)


def test_a_folder_of_that_name_is_named_as_a_path(run, opened, tmp_path, monkeypatch):
    shutil.copytree(run.folder, tmp_path / "shipped")
    assert cj.load("./shipped").workdir == tmp_path / "shipped" == cj.load(tmp_path / "shipped").workdir
    assert cj.load("shipped").workdir == tmp_path / "runs" / "shipped"
    with pytest.raises(
        cj.UserError, match="is no model that comes with the library, and takes no other workdir"
    ):
        cj.load("./shipped", workdir="there")
    with pytest.raises(cj.UserError, match="the model shipped has its corpus with it; leave the store out"):
        cj.load("shipped", store="there")


def called(command, *arguments):
    with flagsaver.flagsaver():
        command.define_flags()
        flags.FLAGS([command.__name__, *arguments])
        command.main()


def test_the_command_draws_it(opened, tmp_path, capsys):
    called(view, "--model=shipped", "--workdir=there")
    assert capsys.readouterr().out.strip().endswith("there/report.html")
    assert (tmp_path / "there" / "circuits" / TASK / "page.html").exists()
    called(view, f"--model={tmp_path / 'there'}", "--out=elsewhere")
    assert (tmp_path / "elsewhere" / "report.html").exists() and not (tmp_path / "runs").exists()


def test_the_card_tells_the_figures_of_the_files(run, folder, tmp_path):
    card = (folder / "MODEL_CARD.md").read_text("utf-8")
    assert card == model_card(folder)
    score = run.score(cj.TASKS[TASK], pairs=run.config.prune.test_pairs)
    (circuit,) = run.circuits
    row = next(line for line in card.splitlines() if line.startswith(f"| {TASK} |"))
    target = {True: "met", False: "missed"}.get(circuit.provenance.get("met_target"), "")
    assert row == (
        f"| {TASK} | {score['loss']:.3f} | {score['accuracy']:.2f} | {len(circuit.nodes)} | "
        f"{len(circuit.edges)} | {circuit.ablation} | 0.250 (0.25) | {target} | missed | not shown, close |"
    )
    assert sum(line.startswith(tuple(f"| {name} |" for name in cj.TASKS)) for line in card.splitlines()) == 20
    for part in (
        run.model.hash,
        run.tokenizer.hash,
        run.corpus.hash,
        "2.750 nats",
        "Apache-2.0",
        "| model.d_model | `16` |",
    ):
        assert part in card, part
    assert "of them not zero" in card and str(tmp_path.parent) not in card
    assert f"- Controls of the audits: quick `{TASK}`. Without full ones" in card
    other = shutil.copytree(folder, tmp_path / "shipped")
    path = other / "run" / "circuits" / TASK / "circuit.json"
    path.write_text(path.read_text().replace('"test/calibrated_loss": 0.25', '"test/calibrated_loss": 0.5'))
    changed = model_card(other)
    # Another circuit than the audited one.
    assert f"| 0.500 (0.25) | {target} | missed | not audited |" in changed
    for met, word in ((True, "met"), (False, "missed")):
        manifest = json.loads(path.read_text())
        manifest["provenance"]["met_target"] = met
        path.write_text(json.dumps(manifest))
        changed = model_card(other)
        assert f"| {word} | missed | not audited |" in changed
        assert f" {int(met)} of these meet the target on" in changed
    path.write_text(path.read_text().replace('"test/calibrated_loss": 0.5', '"test/calibrated_loss": 0.1'))
    assert "| missed | met | not audited |" in (changed := model_card(other))
    assert "by which they were chosen, 1 on test pairs, too, and 0 are faithful" in changed


@real
def test_the_shipped_model_is_small_and_its_card_is_of_its_files():
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    assert size <= MOST_BYTES
    assert (FOLDER / "MODEL_CARD.md").read_text("utf-8") == model_card(FOLDER)
    on_disk = {p.relative_to(FOLDER).as_posix() for p in FOLDER.rglob("*") if p.is_file()}
    record = json.loads((FOLDER / RECORD).read_text("utf-8"))
    assert on_disk == {*record["sha256"], RECORD, "MODEL_CARD.md"}


@real
def test_the_shipped_model_is_what_its_record_says_on_this_machine_too():
    found = cj.load("shipped")
    record = json.loads((FOLDER / RECORD).read_text("utf-8"))
    assert found.model.hash == record["model"] and found.tokenizer.hash == record["tokenizer"]
    for circuit in found.circuits:
        circuit.check_model(record["model"], record["tokenizer"])
    for circuit in found.circuits[:2]:
        figures = found.score(cj.TASKS[circuit.task], circuit=circuit)
        assert figures["calibrated_loss"] == pytest.approx(circuit.metrics["test/calibrated_loss"], abs=2e-3)


@real
def test_the_first_block_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (FOLDER.parents[1] / "README.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(import circuits_jax.*?)```", text, re.S)
    names = {}
    exec(code, names)  # noqa: S102 - ours
    assert names["logits"].shape[-1] == names["run"].model.config.vocab_size
    assert (tmp_path / "runs" / "shipped" / "circuits" / "single_double_quote" / "page.html").exists()


@real
@pytest.mark.slow
def test_the_shipped_model_is_drawn_within_a_minute(tmp_path):
    began = time.monotonic()
    page = cj.load("shipped", workdir=tmp_path / "run").page()
    assert time.monotonic() - began < 60
    drawn = {path.parent.name for path in (tmp_path / "run").glob("circuits/*/page.html")}
    assert drawn == {circuit.task for circuit in cj.load("shipped").circuits} and page.path.exists()

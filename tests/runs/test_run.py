"""The library as a notebook uses it, at a tiny size: a run is trained, pruned, audited, drawn and opened."""

import dataclasses
import json
from pathlib import Path

import pytest

import circuits_jax as cj
from circuits_jax.data.programs.words import SPLITS
from circuits_jax.runs import training
from tests.wheel.test_wheel import corpus
from tests.wheel.tiny_run import SETTINGS

KNOWN = "while_return_true"
# Smaller still: a circuit of a model that learned nothing has all its nodes, which are tried one by one.
SMALLEST = {**SETTINGS, "model.d_model": 16, "model.d_mlp": 16, "prune.steps": 5, "prune.train_pairs": 16}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("library")
    config = cj.load_config("quickstart", {**SMALLEST, "data.roots": (str(corpus(place / "tree")),)})
    return cj.train(config, place / "run")


@pytest.fixture(scope="module")
def own(run, tmp_path_factory):
    """A task in a file: pairs of a built-in one."""
    path = tmp_path_factory.mktemp("tasks") / "mine.jsonl"
    lines = []
    for split in ("train", "select", "test"):
        pairs = cj.build_pairs(cj.TASKS[KNOWN], run.tokenizer, split, 80, 0, run.model.config.n_ctx)
        for (a, b), (right_a, right_b) in zip(pairs.texts, pairs.continuations, strict=True):
            row = {"a": a, "b": b, "answer_a": right_a, "answer_b": right_b, "split": split}
            lines.append(json.dumps(row))
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def circuit(run, own):
    return run.prune(cj.load_task(own), allow_unlearned=True)


@pytest.mark.slow
def test_a_circuits_score_is_its_own_figures(run, own, circuit):
    for split in ("test", "select"):
        found = run.score(cj.load_task(own), split, circuit)
        for name in ("loss", "accuracy", "calibrated_loss", "calibrated_accuracy"):
            assert found[name] == pytest.approx(circuit.metrics[f"{split}/{name}"], abs=1e-4), name
    other = dataclasses.replace(circuit, ablation="resample")
    with pytest.raises(cj.UserError, match="under resample ablation"):
        run.score(cj.load_task(own), circuit=other)
    with pytest.raises(cj.UserError, match="holds no such circuit"):
        run.audit(dataclasses.replace(circuit, edges=circuit.edges[1:]), controls=False)


@pytest.mark.slow
def test_a_task_of_ones_own_is_pruned_drawn_and_audited(run, own, circuit):
    assert circuit.provenance["prune"]["tasks"] == [str(own)]
    assert "mine" in Path(run.page(circuit)).read_text("utf-8")
    report = run.audit(circuit, controls=False)
    assert report.task == "mine" and report.verdict in str(report)
    again = cj.load(run.workdir)
    assert [each.task for each in again.circuits] == ["mine"]


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_an_edited_line_of_any_split_is_noticed_by_page_and_audit(run, own, circuit, split):
    before, prune = own.read_text(), circuit.provenance["prune"]
    count, n_ctx = prune[f"{split}_pairs"], run.model.config.n_ctx
    drawn = cj.build_pairs(cj.load_task(own), run.tokenizer, split, count, prune["seed"], n_ctx)
    rows = [json.loads(line) for line in before.splitlines()]
    row = next(row for row in rows if (row["split"], row["a"]) == (split, drawn.texts[0][0]))
    for first, second in (("a", "b"), ("answer_a", "answer_b")):  # the same pair, the other way round
        row[first], row[second] = row[second], row[first]
    own.write_text("\n".join(map(json.dumps, rows)))
    cj.load_task(own)
    try:
        for look in (run.page, run.audit):
            with pytest.raises(cj.UserError, match="mine are not those that its circuit was"):
                look(circuit)
    finally:
        own.write_text(before)
        cj.load_task(own)


def test_a_new_run_in_which_nothing_passes_is_refused_before_anything_is_made(tmp_path):
    for values in ({"model.activation_fraction": 0.01}, {"model.d_mlp": 3}):
        config = cj.load_config("quickstart", {**SMALLEST, "data.roots": ("/nowhere",), **values})
        with pytest.raises(cj.UserError, match="so small that AbsTopK keeps 0 of"):
            cj.train(config, tmp_path / "run")
        assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_in_which_nothing_passes_that_is_there_goes_on_and_tells(tmp_path, monkeypatch, capsys):
    values = {"model.activation_fraction": 0.01, "data.roots": (str(corpus(tmp_path / "tree")),)}
    config = cj.load_config("quickstart", {**SMALLEST, **values})
    with monkeypatch.context() as patch:  # as an earlier release
        patch.setattr(training, "refuse_silenced", lambda config: None)
        cj.train(config, tmp_path / "run")
    cj.train(config, tmp_path / "run")
    capsys.readouterr()
    cj.load(tmp_path / "run")
    assert "AbsTopK keeps 0 of 16" in capsys.readouterr().err


@pytest.mark.slow
def test_the_page_of_a_run_lists_what_was_refused(run, circuit):
    del circuit  # without one there is no page
    rows = [{"task": "with_as", "refused": "the model knows nothing of it"}]
    (run.workdir / "prune.json").write_text(json.dumps({"summary": {}, "rows": rows}))
    assert "the model knows nothing of it" in Path(run.page()).read_text("utf-8")


@pytest.mark.slow
def test_notebooks_and_prompts_show_what_there_is(run, circuit):
    report = run.audit(circuit, controls=False)
    shown = run.page(circuit)
    for thing in (run, circuit, report, shown):
        assert "\n" not in str(thing) and thing._repr_html_().lstrip().startswith("<")
    assert "mine" in repr(circuit) and "mine" in circuit._repr_html_()
    assert "1 circuit" in repr(run) and str(run.workdir) in run._repr_html_()
    assert report.verdict in report._repr_html_()
    assert shown._repr_html_().startswith("<iframe srcdoc=")


@pytest.mark.slow
def test_calling_the_library_leaves_the_process_as_it_was(run, capfd):
    from absl import flags, logging

    before = logging.get_verbosity(), flags.FLAGS.is_parsed()
    run.score(cj.TASKS[KNOWN], pairs=16)
    run.model("while True")
    assert (logging.get_verbosity(), flags.FLAGS.is_parsed()) == before
    assert capfd.readouterr().out == ""


def test_a_run_goes_on_and_ends_as_it_is(run):
    again = cj.train(run.config, run.workdir)
    assert again.model.hash == run.model.hash


def test_a_bucket_without_its_library_is_one_line(monkeypatch):
    import fsspec

    def missing(scheme):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    for call in (cj.load, lambda name: cj.train(cj.load_config("quickstart"), name)):
        with pytest.raises(cj.UserError, match=r"gs://bucket/run needs .*circuits_jax\[gcs\]"):
            call("gs://bucket/run")

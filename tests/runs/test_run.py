"""The library as a notebook uses it, at a tiny size: a run is trained, pruned, audited, drawn and opened."""

import json
from pathlib import Path

import pytest

import circuits_jax as cj
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
        pairs = cj.build_pairs(cj.TASKS[KNOWN], run.tokenizer, split, 40, 0, run.model.config.n_ctx)
        for (a, b), (right_a, right_b) in zip(pairs.texts, pairs.continuations, strict=True):
            row = {"a": a, "b": b, "answer_a": right_a, "answer_b": right_b, "split": split}
            lines.append(json.dumps(row))
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def circuit(run, own):
    return run.prune(cj.load_task(own), allow_unlearned=True)


@pytest.mark.slow
def test_a_task_of_ones_own_is_pruned_drawn_and_audited(run, own, circuit):
    assert circuit.provenance["prune"]["tasks"] == [str(own)]
    assert "mine" in Path(run.page(circuit)).read_text("utf-8")
    report = run.audit(circuit, controls=False)
    assert report.task == "mine" and report.verdict in str(report)
    again = cj.load(run.workdir)
    assert [each.task for each in again.circuits] == ["mine"]


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

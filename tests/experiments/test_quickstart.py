"""The main job as a command, at a size at which a model learns nothing: it says so, and is not repeated."""

import json

import pytest

from circuits_jax.data.programs.generator import corpus_words, generate_programs
from circuits_jax.data.programs.words import WORDS
from circuits_jax.training.metrics import read_metrics
from tests.experiments.command import TINY, finish, start

TASKS = ("bracket_counting", "while_return_true")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A finished quickstart of a tiny model on programs whose words the tasks use too."""
    place = tmp_path_factory.mktemp("quickstart")
    words = [word for kinds in WORDS["train"].values() for word in kinds if word.islower()]
    held_out = "\n".join(
        f"{word} = {word}"
        for split in ("select", "test")
        for kinds in WORDS[split].values()
        for word in kinds
    )
    (place / "tree").mkdir()
    for number, text in enumerate(generate_programs(corpus_words(words), seed=0, count=60)):
        (place / "tree" / f"{number}.py").write_text(text + held_out + "\n" * number)
    assert run(place)[0] == 0
    return place


def run(place):
    """The command, at its tiny size."""
    flags = (
        *TINY,
        *("--config.model.n_ctx=64", "--config.model.vocab_size=1400", "--config.train.steps=4"),
        *("--config.train.eval_every=2", "--config.train.checkpoint_every=2", "--config.prune.steps=5"),
        *(
            "--config.prune.train_pairs=16",
            "--config.prune.select_pairs=16",
            "--config.prune.test_pairs=16",
            "--config.data.seed=1",
        ),
        f"--config.prune.tasks={TASKS}",
        *(f"--config.data.roots={place / 'tree'}", f"--workdir={place / 'run'}"),
    )
    return finish(start(place / "programs", "quickstart", *flags))


def test_a_model_that_knows_nothing_is_refused_by_task_and_the_rest_is_there(workdir):
    written = json.loads((workdir / "run" / "quickstart.json").read_text())
    assert [row["task"] for row in written["rows"]] == list(TASKS)
    assert all(row["task"] in row["refused"] for row in written["rows"]), written["rows"]
    assert written["summary"]["validation loss"] > 0
    assert (workdir / "run" / "report.html").read_text().startswith("<!")
    assert not list((workdir / "run" / "circuits").glob("[!.]*"))


def test_a_second_call_trains_nothing_again_even_where_the_log_of_the_first_is_damaged(workdir):
    (workdir / "run" / "metrics.jsonl").write_bytes(b"\0\0\0\n")
    before = read_metrics(workdir / "run")
    checkpoints = {p: p.stat().st_mtime_ns for p in (workdir / "run" / "checkpoints").rglob("*")}
    code, out, errors = run(workdir)
    assert code == 0 and errors == []
    assert "report.html" in out
    assert read_metrics(workdir / "run") == before == []
    assert "steps" not in json.loads((workdir / "run" / "quickstart.json").read_text())["summary"]
    assert {p: p.stat().st_mtime_ns for p in (workdir / "run" / "checkpoints").rglob("*")} == checkpoints

"""A whole frontier of models that learn their task in seconds: trained, pruned, drawn, killed, resumed."""

import itertools
import json
import random

import pytest

from circuits_jax.config import (
    Config,
    DataConfig,
    FrontierConfig,
    ModelConfig,
    OptimizerConfig,
    PruneConfig,
    SparsityConfig,
    TrainConfig,
)
from circuits_jax.runs.frontier import plan_frontier, run_frontier
from circuits_jax.runs.pages import load_circuit
from circuits_jax.storage.errors import Stopped
from circuits_jax.training import loop
from tests.one_device import one_device
from tests.viewer.page import parse

pytestmark = pytest.mark.slow

KEYS = {"alpha": "1", "gamma": "2"}
WORDS = [a + b for a, b in itertools.product(("ba", "do", "fi", "ku", "le", "mo"), ("n", "r", "s", "t", "x"))]
SPLITS = {"train": WORDS[:14], "select": WORDS[14:22], "test": WORDS[22:]}


def write_corpus(folder):
    """Lines that end in a digit which their first word decides; other words say nothing."""
    draw = random.Random(0)
    folder.mkdir()
    for number in range(24):
        lines = [
            f"{key} {draw.choice(WORDS)} {draw.choice(WORDS)} = {KEYS[key]}"
            for key in draw.choices(list(KEYS), k=120)
        ]
        (folder / f"lines_{number}.py").write_text("\n".join(lines) + "\n")


def write_task(path):
    """Which digit?"""
    rows = [
        {
            "a": f"alpha {one} {other} =", "b": f"gamma {one} {other} =", "answer_a": " 1", "answer_b": " 2",
            "split": split, "template": f"{split} {words.index(one) % 4}",
        }
        for split, words in SPLITS.items()
        for one, other in itertools.permutations(words, 2)
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture
def asked(tmp_path):
    write_corpus(tmp_path / "code")
    write_task(tmp_path / "digit.jsonl")
    return Config(
        model=ModelConfig(
            n_layer=1, d_model=32, d_head=8, d_mlp=32, n_ctx=32, vocab_size=320, activation_fraction=None
        ),
        data=DataConfig(roots=(str(tmp_path / "code"),), validation_fraction=0.25),
        sparsity=SparsityConfig(target=0.25, floor=0),
        optimizer=OptimizerConfig(learning_rate=0.05),
        train=TrainConfig(steps=400, batch_size=8, eval_every=200, eval_batches=4, checkpoint_every=100),
        prune=PruneConfig(
            tasks=(str(tmp_path / "digit.jsonl"),), steps=40, train_pairs=32, select_pairs=32, test_pairs=32,
            edge_steps=10, mean_batches=2, learnt=0.15, retries=1, importance_nodes=0, importance_pairs=32,
        ),
        frontier=FrontierConfig(
            series=("dense: sparsity.target=1 model.d_model=16,32", "sparse: model.d_model=16,32"),
            compare=("dense / sparse", "sparse / dense"),
            learning_rates=(0.02, 0.05),
        ),
    )  # fmt: skip


def test_a_frontier_is_measured_goes_on_where_it_was_stopped_and_says_what_its_files_say(
    asked, tmp_path, monkeypatch
):
    whole, begun = loop.Trainer._loop, []

    def stopped_once(trainer, state, first, *rest):
        config = trainer.config
        of = config.model.d_model, config.sparsity.target, config.optimizer.learning_rate
        begun.append((*of, first))
        if len(begun) == 4:  # amid the list
            raise Stopped("asked to stop")
        return whole(trainer, state, first, *rest)

    monkeypatch.setattr(loop.Trainer, "_loop", stopped_once)
    workdir, notes = tmp_path / "runs", []
    with one_device():
        with pytest.raises(Stopped):
            run_frontier(asked, workdir, note=notes.append)
        before = {path: path.read_bytes() for path in (workdir / "points").glob("*.json")}
        assert 0 < len(before) < 4
        report = run_frontier(asked, workdir, note=notes.append)
    assert {path: path.read_bytes() for path in before} == before
    # Two trials a series, one of which is the middle point's own training; nothing is trained twice.
    trained = [of for *of, first in begun if first < asked.train.steps]
    assert len({tuple(of) for of in trained}) == 6 and len(trained) == 7  # one of them was stopped
    assert report == json.loads((workdir / "frontier.json").read_bytes()) and report["missing"] == []
    assert [p["kind"] for p in report["points"]] == ["dense", "dense", "sparse", "sparse"]
    for point in report["points"]:
        assert 0 < point["loss"] < 3 and point["pages"] is not None
        folder = workdir / point["pages"].rpartition("/")[0]
        assert (folder / "report.html").exists()
        circuit = load_circuit(folder / "circuits" / "digit")
        found = point["found"]["digit"]
        assert (found["found_edges"], found["found_nodes"]) == (len(circuit.edges), len(circuit.nodes))
        assert circuit.provenance["met_target"] == found["met"]
        assert point["edges"]["digit"] == (len(circuit.edges) if found["met"] else point["all_edges"])
    larger, smaller = (comparison["edges"] for comparison in report["comparisons"])
    assert larger["tasks"] == smaller["tasks"] == ["digit"] and larger["losses"] == smaller["losses"]
    if larger["why"] is None:  # their losses overlap here by 0.006, which another processor may undo
        assert larger["value"] * smaller["value"] == pytest.approx(1)
    else:
        assert all("losses do not overlap" in each["why"] for each in (larger, smaller))
    page = parse((workdir / "frontier.html").read_text())
    assert len(page.all("svg", "sizes")[0].all("a")) == 4
    assert (workdir / "frontier.png").stat().st_size > 5000
    begun.clear()
    assert run_frontier(asked, workdir, note=notes.append) == report and begun == []
    assert plan_frontier(asked, workdir).hours_to_go == 0

"""The table of patterns of a run that has its corpus, with or without a checkpoint."""

import json
import re
from pathlib import Path

import pytest

from circuits_jax.config import Config, DataConfig, ModelConfig
from circuits_jax.data import store
from circuits_jax.runs.corpora import corpus_to_train, settle, with_corpus
from circuits_jax.runs.patterns import pattern_table
from circuits_jax.storage.errors import ConfigError, CorpusError
from circuits_jax.tasks import TASKS, load_task
from circuits_jax.training.workdir import claim

PROGRAM = (
    "def f{0}(a, b{0}):\n    for c{0} in a:\n        b{0} += c{0}\n    while b{0} < 3:\n        b{0} += 1\n"
)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run that has not begun to train."""
    root = tmp_path_factory.mktemp("patterns")
    (root / "tree").mkdir()
    for number in range(40):
        (root / "tree" / f"{number}.py").write_text(PROGRAM.format(number))
    model = ModelConfig(n_layer=1, d_model=16, d_mlp=16, n_ctx=63, vocab_size=320)
    config = Config(model=model, data=DataConfig(roots=(str(root / "tree"),), validation_fraction=0.25))
    config = settle(config, root / "run")
    corpus = corpus_to_train(config, root / "run", lambda folder: None)
    claim(root / "run", with_corpus(config, corpus))
    return root / "run"


def test_a_row_a_task_and_the_same_as_counted_in_the_windows(workdir: Path) -> None:
    rows, summary = pattern_table(workdir, [TASKS["for_while"], TASKS["var_swap"]])
    assert [row["task"] for row in rows] == ["for_while", "var_swap"]
    corpus = store.read(next((workdir / "data").glob("*/corpus.json")).parent)
    assert summary == {
        "corpus": corpus.hash, "windows of code": len(corpus.train), "windows of generated programs": 0
    }  # fmt: skip
    documents = [
        text
        for row in corpus.train.rows(slice(None)).tolist()
        for text in re.split(
            "\0", "".join("\0" if i == corpus.tokenizer.eot else corpus.tokenizer.decode([i]) for i in row)
        )
    ]
    million = len(corpus.train) * 64 / 1e6
    loops = sum(len(re.findall(r"^ *for \w+ in ", text, re.M)) for text in documents)
    whiles = sum(len(re.findall(r"^ *while \w+ < ", text, re.M)) for text in documents)
    assert loops > 10 < whiles
    assert rows[0] == {
        "task": "for_while",
        "code A": pytest.approx(loops / million),
        "code B": pytest.approx(whiles / million),
    }
    assert rows[1] == {"task": "var_swap", "code A": 0}


def test_where_the_corpus_lies_by_now(workdir: Path, tmp_path: Path) -> None:
    before, _ = pattern_table(workdir, [TASKS["for_while"]])
    (moved,) = [path.parent for path in (workdir / "data").glob("*/corpus.json")]
    moved.rename(tmp_path / moved.name)
    try:
        with pytest.raises(CorpusError, match="lies in none of"):
            pattern_table(workdir, [TASKS["for_while"]])
        assert pattern_table(workdir, [TASKS["for_while"]], tmp_path)[0] == before
    finally:
        (tmp_path / moved.name).rename(moved)


def test_tasks_without_patterns_are_left_out_and_none_is_refused(workdir: Path, tmp_path: Path) -> None:
    lines = [{"a": f"a{n} x", "b": f"b{n} x", "answer_a": "1", "answer_b": "2"} for n in range(8)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, lines)))
    mine = load_task(tmp_path / "mine.jsonl")
    assert [row["task"] for row in pattern_table(workdir, [mine, TASKS["for_while"]])[0]] == ["for_while"]
    with pytest.raises(ConfigError, match="mine has no patterns to look for"):
        pattern_table(workdir, [mine])
    with pytest.raises(ConfigError, match="holds no run"):
        pattern_table(tmp_path, [TASKS["for_while"]])

"""Pairs for the list of tasks, with a model and without one."""

import json

from circuits_jax.data.programs.words import SPLITS
from circuits_jax.runs.scoring import pairs_or_refusal
from circuits_jax.tasks import Pairs, load_task
from tests.tasks.word_tokenizer import WordTokenizer


def test_without_a_model_no_context_limits_pairs_as_they_are(tmp_path):
    words = " and" * 200
    rows = [
        {"a": f"x {n}{words}", "b": f"y {n}{words}", "answer_a": "1", "answer_b": "2", "split": split}
        for n in range(4)
        for split in SPLITS
    ]
    (tmp_path / "long.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pairs = pairs_or_refusal(load_task(tmp_path / "long.jsonl"), WordTokenizer(), 4, None)
    assert isinstance(pairs, Pairs) and pairs.tokens.shape[-1] > 200

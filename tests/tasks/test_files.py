"""Tasks of the user's own, from one small file."""

import json

import pytest

from circuits_jax.tasks import TASKS, TaskError, build_pairs, get_task, load_task
from tests.tasks.word_tokenizer import WordTokenizer

PYTHON = """
from circuits_jax.tasks import Task, skeleton

_CLOSE = ("$n0 = $n1\\n$n2 = («(|[»$d0, $d1, $d2", "«))|])»\\n")
MINE = Task(
    "mine",
    "close what is open",
    {"train": (skeleton(*_CLOSE),), "heldout": (skeleton(_CLOSE[0].replace("=", "+="), _CLOSE[1]),)},
)
"""


def _row(number, **more):
    start = f"cost = $ {number} and a b c d e f"
    return {"a": start + " x (", "b": start + " y (", "answer_a": "one)", "answer_b": "two)"} | more


def test_python_file(tmp_path):
    (tmp_path / "mine.py").write_text(PYTHON)
    task = get_task(str(tmp_path / "mine.py"))
    pairs = build_pairs(task, WordTokenizer(), "heldout", 30, 0, 64)
    assert pairs.task == "mine"
    assert all(a.count("+=") == 2 for a, _ in pairs.texts)


def test_jsonl_file(tmp_path):
    path = tmp_path / "prices.jsonl"
    rows = [_row(1, split="train"), _row(2, split="heldout")] + [_row(number % 10) for number in range(3, 9)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    task = load_task(path)
    assert task.name == "prices"
    assert sum(map(len, task.templates.values())) == 8
    pairs = build_pairs(task, WordTokenizer(), "train", 1, 0, 64)
    assert pairs.texts[0][0].startswith("cost = $ ") and pairs.continuations == [("one)", "two)")]
    assert load_task(path) == task


def test_names():
    assert get_task("var_if") is TASKS["var_if"]
    with pytest.raises(
        TaskError, match="unknown task 'quotes'; choose one of single_double_quote, .*class_init"
    ):
        get_task("quotes")


@pytest.mark.parametrize(
    "name,text,message",
    [
        ("a.jsonl", json.dumps(_row(1, split="train")), "has no heldout pair"),
        ("a.jsonl", "{", "a.jsonl line 1 is not JSON"),
        (
            "a.jsonl",
            '\n{"a": "x"}',
            "a.jsonl line 2 must be an object with the strings a, b, answer_a, answer_b",
        ),
        (
            "a.jsonl",
            json.dumps(_row(1, split="test")),
            "line 1 has the split 'test'; choose one of train, heldout",
        ),
        ("a.py", "x = 1", "defines 0 tasks"),
        ("a.py", "x = (", "fails when imported: SyntaxError"),
        ("a.txt", "", "must be .py or .jsonl"),
        ("missing/a.py", None, "does not exist"),
    ],
)
def test_bad_files(tmp_path, name, text, message):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(TaskError, match=message):
        load_task(path)

"""Tasks of the user's own, from one small file."""

import hashlib
import json
import pathlib
import py_compile

import numpy as np
import pytest

from circuits_jax.data.programs.words import SPLITS
from circuits_jax.data.tokenizers.bpe import train_sentencepiece
from circuits_jax.tasks import (
    TASKS,
    Task,
    TaskError,
    build_pairs,
    find_task,
    get_task,
    load_recorded,
    load_task,
)
from tests.tasks.characters import Characters
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
    pairs = build_pairs(task, WordTokenizer(), "test", 30, 0, 64)
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
    for kind in (TaskError, KeyError):
        with pytest.raises(kind, match=r"^unknown task 'quotes'; choose one of single_double_quote"):
            TASKS["quotes"]
    assert "quotes" not in TASKS and TASKS.get("quotes") is None


@pytest.mark.parametrize(
    "name,text,message",
    [
        ("a.jsonl", json.dumps(_row(1, split="train")), "has no test pair"),
        ("a.jsonl", "{", "a.jsonl line 1 is not JSON"),
        (
            "a.jsonl",
            '\n{"a": "x"}',
            "a.jsonl line 2 must be an object with the strings a, b, answer_a, answer_b",
        ),
        (
            "a.jsonl",
            json.dumps(_row(1, split="dev")),
            "line 1 has the split 'dev'; choose one of train, select, test",
        ),
        ("a.jsonl", json.dumps(_row(1, template=[3])), r"line 1 has the template \[3\]; give its name or n"),
        (
            "a.jsonl",
            "\n".join(
                json.dumps(_row(n, split=split, template="t")) for n, split in enumerate(("train", "test"))
            ),
            "line 2 puts template 't' into split test, and .*line 1 puts it into train; lines of one",
        ),
        ("a.py", "x = 1", "defines 0 tasks"),
        ("a.py", "x = (", "fails when imported: SyntaxError"),
        ("a.py", "1 / 0", "fails when imported: ZeroDivisionError"),
        ("a.py", "open('/no/such/file')", "fails when imported: FileNotFoundError"),
        ("a.py", "raise SystemExit(3)", "fails when imported: SystemExit"),
        ("a.py", "raise GeneratorExit", "fails when imported: GeneratorExit"),
        ("a.jsonl", '{"a": 1' + "0" * 5000 + "}", "line 1 is not JSON"),
        ("a.py", PYTHON.replace('"mine"', '"../mine"'), "cannot be called '../mine'"),
        ("a.jsonl", json.dumps(_row(1) | {"a": "\ud800"}), "line 1 holds half a character"),
        ("a.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("a.jsonl", json.dumps(_row(1) | {"answer_b": ""}), "line 1 has an empty answer_b"),
        ("a.jsonl", json.dumps(_row(1) | {"a": ""}), "line 1 has an empty a"),
        ("a.jsonl", json.dumps(_row(1) | {"answer_b": "one)"}), "as answer_a and as answer_b"),
        ("a.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        ("a.py", "version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        ("a.py", PYTHON.replace("$d0, ", "\\ud800"), "holds half a character"),
        ("a.txt", "", "must be .py or .jsonl"),
        ("a" * 300 + ".jsonl", None, "does not exist"),
        ("missing/a.py", None, "does not exist"),
    ],
)
def test_bad_files(tmp_path, name, text, message):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(TaskError, match=message):
        load_task(path)


def _pairs_of(tmp_path, *rows, n_ctx=64, count=1):
    path = tmp_path / "mine.jsonl"
    splits = [row | {"split": "train"} for row in rows] + [_row(9, split="heldout")]
    path.write_text("\n".join(map(json.dumps, splits)))
    return build_pairs(load_task(path), WordTokenizer(), "train", count, 0, n_ctx)


@pytest.mark.parametrize("words", [1, 3, 200, 300])
def test_only_the_context_limits_pairs_as_they_are(tmp_path, words):
    row = {"a": "a " * words + "x (", "b": "a " * words + "y (", "answer_a": "one", "answer_b": "two"}
    pairs = _pairs_of(tmp_path, row, n_ctx=320)
    assert pairs.texts == [(row["a"], row["b"])]
    if words > 100:
        with pytest.raises(TaskError, match=r"more tokens than the model's context of 64.*longer context"):
            _pairs_of(tmp_path, row)


@pytest.mark.parametrize(
    ("change", "reason", "way_out"),
    [
        (
            {"b": "cost = $ 1 and a b c d e f y y ("},
            r"differ in length.*\(\d+ tokens\)",
            "equally many tokens",
        ),
        ({"answer_a": "two"}, r"begins with the other, such as 'two' and 'two\)'", "add to the shorter one"),
        ({"answer_b": "one) "}, "begins with the other", "add to the shorter one"),
        ({"b": "cost = $ 1 and a b c d e f y ["}, "end in the same token", "same after what differs"),
        (
            {"a": "cost = $ 1 and a b c d e f x q", "b": "cost = $ 1 and a b c d e f y q"},
            "prefix",
            "token ends",
        ),
    ],
)
def test_the_real_reason_and_a_way_out(tmp_path, change, reason, way_out):
    with pytest.raises(TaskError, match=f"{reason}.*{way_out}") as error:
        _pairs_of(tmp_path, _row(1) | change)
    assert "vocabulary" not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("control", ["\0", "\x01", "\x1b[1m", "\r", "\x7f", "\x85", "\u2028", "\ufeff"])
def test_control_characters_are_kept(tmp_path, control):
    texts = f"{control}a{control}x=", f"{control}b{control}x="
    row = dict(zip(("a", "b", "answer_a", "answer_b"), (*texts, f"1{control}", f"2{control}"), strict=True))
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps(row | {"split": split}) for split in ("train", "heldout")))
    pairs = build_pairs(load_task(path), Characters(), "train", 1, 0, 64)
    assert pairs.texts == [texts] and pairs.continuations == [(f"1{control}", f"2{control}")]


@pytest.mark.parametrize("answers", [("é", "è"), ("\u2028", "\u2029"), ("🦒.", "🦓."), ("«", "»")])
def test_answers_that_part_within_a_character_are_shown_as_they_are(tmp_path, answers):
    tokenizer = train_sentencepiece(["for name in names:\n    print(name, [5, 6])\n"] * 20, 290, ())
    row = dict(zip(("answer_a", "answer_b"), answers, strict=True))
    rows = [_row(number, split=split, **row) for number in range(8) for split in SPLITS]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pairs = build_pairs(load_task(tmp_path / "mine.jsonl"), tokenizer, "train", 8, 0, 128)
    assert set(pairs.continuations) == {answers}
    assert {text for texts in pairs.texts for text in texts} == {row[key] for row in rows for key in "ab"}
    for texts, after, tokens, last, right in zip(
        pairs.texts, pairs.continuations, pairs.tokens, pairs.last, pairs.answers, strict=True
    ):
        for text, more, ids, answer in zip(texts, after, tokens, right, strict=True):
            whole = tokenizer.encode(text + more)
            assert whole[: last + 2] == [*ids[: last + 1].tolist(), answer]


def test_bytes_that_are_no_text_are_told_by_their_line(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(json.dumps(_row(1)).encode() + b"\n\n" + b'{"a": "\xff"}\n')
    with pytest.raises(TaskError, match="mine.jsonl, line 3, is not UTF-8"):
        load_task(path)


def test_a_task_whose_name_is_no_text_is_refused(tmp_path):
    path = tmp_path / "t\udce9.jsonl"
    path.write_text("\n".join(json.dumps(_row(1, split=split)) for split in ("train", "heldout")))
    with pytest.raises(TaskError, match="not UTF-8; rename its file"):
        load_task(path)


def test_a_python_file_may_define_dataclasses(tmp_path):
    more = "\nimport dataclasses\n@dataclasses.dataclass\nclass Kind:\n    name: str = 'x'\n"
    (tmp_path / "mine.py").write_text("from __future__ import annotations\n" + PYTHON + more)
    assert load_task(tmp_path / "mine.py").name == "mine"


@pytest.fixture
def hostile(tmp_path):
    """A Python file that leaves a trace where it runs, and that trace."""
    path, trace = tmp_path / "hostile.py", tmp_path / "it ran"
    path.write_text(PYTHON.replace('"mine"', '"hostile"') + f"open({str(trace)!r}, 'w')\n")
    return path, trace


def test_a_python_file_runs_only_where_it_is_named(hostile):
    path, trace = hostile
    for recorded in ((str(path),), ("var_if", str(path)), (str(path.with_suffix(".jsonl")), str(path))):
        with pytest.raises(TaskError, match=rf"--tasks={path}"):
            find_task("hostile", recorded)
    for digests in ((), {"0" * 64}, {hashlib.sha256(b"").hexdigest()}):
        with pytest.raises(TaskError, match=r"hostile\.py does not run: .*--changed_tasks"):
            load_recorded(path, digests)
    assert not trace.exists()
    task = load_recorded(path, {"0" * 64, hashlib.sha256(path.read_bytes()).hexdigest()})
    assert trace.exists() and task.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert find_task("hostile", (), [task]) is task
    with pytest.raises(TaskError, match="'hostile' is not built in"):
        find_task("hostile", ())


def test_what_runs_is_the_file_and_not_a_compiled_one_beside_it(hostile, tmp_path):
    """Which may have been made of another text, with the same size and time."""
    path, trace = hostile
    compiled = py_compile.compile(str(path), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    assert pathlib.Path(compiled).exists()
    path.write_text(PYTHON.replace('"mine"', '"tame"'))
    assert load_task(path).name == "tame" and not trace.exists()


def test_pairs_are_read_wherever_a_circuit_says_they_are(tmp_path):
    rows = [_row(1, split="train"), _row(2, split="heldout")]
    (tmp_path / "prices.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert find_task("prices", (str(tmp_path / "prices.jsonl"),)).name == "prices"


def test_jsonl_with_a_byte_order_mark_and_line_ends_within_strings(tmp_path):
    rows = [_row(1, split="train") | {"a": "x\u2028\x85y"}, _row(2, split="heldout")]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "mine.jsonl").write_bytes(text.encode("utf-8-sig"))
    (template,) = load_task(tmp_path / "mine.jsonl").templates["train"]
    assert template.prompts[0] == "x\u2028\x85y"


def test_a_circuits_task_is_found_again_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr("circuits_jax.tasks.files._named", [])
    (tmp_path / "file.py").write_text(PYTHON)
    names = ("var_if", str(tmp_path / "gone.jsonl"), str(tmp_path / "file.py"))
    with pytest.raises(TaskError, match="Python files run only if you name them"):
        find_task("mine", names)
    assert load_task(tmp_path / "file.py") == find_task("mine", ())
    assert find_task("var_if", ()) is TASKS["var_if"]
    with pytest.raises(TaskError, match="'gone' is not built in, and its file is not there .*gone.jsonl"):
        find_task("gone", names)


def _load(tmp_path, rows):
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return load_task(path)


def _numbers(templates):
    return [int(template.prompts[0].split()[3]) for template in templates]


def _many(count, **more):
    return [
        _row(number)
        | {"a": f"cost = $ {number} and a b c d x (", "b": f"cost = $ {number} and a b c d y ("}
        | more
        for number in range(count)
    ]


def test_select_is_taken_from_train_lines_by_their_hash(tmp_path):
    train, tested = _many(200, split="train"), [_row(1, split="heldout")]
    task = _load(tmp_path, train + tested)
    assert len(task.templates["test"]) == 1
    found = {split: _numbers(task.templates[split]) for split in ("train", "select")}
    assert sorted(found["train"] + found["select"]) == list(range(200))
    assert 30 <= len(found["select"]) <= 70
    # Whatever other lines there are, and in whatever order they come.
    fewer = _load(tmp_path, train[150:50:-1] + tested)
    assert _numbers(fewer.templates["select"]) == [n for n in range(150, 50, -1) if n in found["select"]]
    # Lines that say it are the only ones.
    said = _load(tmp_path, train + tested + [_row(2, split="select")])
    assert len(said.templates["select"]) == 1 and len(said.templates["train"]) == 200


def test_lines_without_a_split_are_tested_with_as_before(tmp_path):
    rows = _many(200)
    tested = [
        number
        for number, row in enumerate(rows)
        if hashlib.sha256(
            "\0".join(row[key] for key in ("a", "b", "answer_a", "answer_b")).encode()
        ).digest()[0]
        < 64
    ]
    assert _numbers(_load(tmp_path, rows).templates["test"]) == tested


@pytest.mark.parametrize(("count", "name"), [(3, "t{}".format), (4, "t{}".format), (12, int)])
def test_lines_of_one_template_stay_together(tmp_path, count, name):
    rows = [row | {"template": name(number % count)} for number, row in enumerate(_many(60))]
    task = _load(tmp_path, rows)
    seen = {split: {number % count for number in _numbers(task.templates[split])} for split in task.templates}
    assert sum(map(len, seen.values())) == len(set().union(*seen.values())) == count
    assert min(map(len, seen.values())) >= 1
    pairs = build_pairs(task, WordTokenizer(), "train", 60 // count, 0, 64)
    assert len(np.unique(pairs.template)) <= len(seen["train"])
    for (a, _), number in zip(pairs.texts, pairs.template, strict=True):
        names = list(dict.fromkeys(number % count for number in _numbers(task.templates["train"])))
        assert names[number] == int(a.split()[3]) % count


@pytest.mark.parametrize("count", range(3, 12))
def test_a_line_that_is_there_twice_is_in_one_split(tmp_path, count):
    """Also where so few lines leave a split to be filled with whatever there is."""
    task = _load(tmp_path, _many(count) + _many(count))
    numbers = {split: _numbers(templates) for split, templates in task.templates.items()}
    assert sorted(sum(numbers.values(), [])) == sorted([*range(count), *range(count)])
    assert sum(len(set(each)) for each in numbers.values()) == count


def test_lines_of_one_template_alone_are_told_to_be_that(tmp_path):
    with pytest.raises(TaskError, match="are of one template, 'x', .* three templates or more"):
        _load(tmp_path, _many(12, template="x"))


def test_one_line_says_the_split_of_its_template(tmp_path):
    rows = _many(40, template="one")[:20] + _many(40, template="two")[20:]
    rows[7]["split"], rows[30]["split"] = "test", "heldout"
    with pytest.raises(TaskError, match="has no train pair"):
        _load(tmp_path, rows)
    rows[30]["split"] = "train"
    task = _load(tmp_path, rows)
    assert _numbers(task.templates["test"]) == list(range(20))
    assert _numbers(task.templates["train"]) == list(range(20, 40))
    with pytest.raises(TaskError, match="no select pairs: one template .*give it two train templates"):
        build_pairs(task, WordTokenizer(), "select", 1, 0, 64)


def test_a_task_of_two_splits_opens(tmp_path):
    more = PYTHON.replace('"train": (skeleton(*_CLOSE),)', '"train": (skeleton(*_CLOSE),) * 9')
    (tmp_path / "mine.py").write_text(more)
    task = load_task(tmp_path / "mine.py")
    assert {split: len(found) for split, found in task.templates.items()} == {
        "train": 7,
        "select": 2,
        "test": 1,
    }
    (tmp_path / "mine.py").write_text(PYTHON)
    task = load_task(tmp_path / "mine.py")  # of one template: what needs no choice can be done
    assert len(build_pairs(task, WordTokenizer(), "test", 9, 0, 64).texts) == 9
    with pytest.raises(TaskError, match="no select pairs: one template"):
        build_pairs(task, WordTokenizer(), "select", 9, 0, 64)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (("train", "dev", "test"), "has a split 'dev'; choose among train, select, test"),
        (("train", "test", "heldout"), "both a split test and a split heldout"),
        (("train", "select"), "no test template"),
        (("select", "test"), "no train template"),
    ],
)
def test_splits_that_cannot_be_read(splits, message):
    templates = TASKS["var_if"].templates["train"]
    with pytest.raises(TaskError, match=message):
        Task("mine", "", dict.fromkeys(splits, templates))


def test_words_of_two_splits_give_some_to_select():
    words = {"train": {"n": tuple("abcdef"), "d": ("1",)}, "heldout": {"n": tuple("xyz"), "d": ("1",)}}
    task = Task("mine", "", TASKS["var_if"].templates, words=words)
    assert task.words == {
        "train": {"n": ("a", "b", "d", "e"), "d": ("1",)},
        "select": {"n": ("c", "f"), "d": ("1",)},
        "test": {"n": ("x", "y", "z"), "d": ("1",)},
    }
    with pytest.raises(TaskError, match="no test words"):
        Task("mine", "", TASKS["var_if"].templates, words={"train": words["train"]})

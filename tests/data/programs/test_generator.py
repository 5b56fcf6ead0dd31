"""Programs of grammar 1 are valid, varied, repeatable, and hold little of the splits that choose and test."""

import ast
import hashlib
import re

import pytest

from circuits_jax.data.programs.generator import (
    build_generated,
    corpus_words,
    find_grammar,
    generate_programs,
)
from circuits_jax.data.programs.words import UNSEEN_WORDS, WORDS
from circuits_jax.storage.errors import ConfigError
from circuits_jax.tasks import TASKS

LETTERS = "abcdefghijklm"
WORDS_60 = [a + b + "um" for a in LETTERS for b in "aeiou"][:60]
QUICKSTART = ("single_double_quote", "bracket_counting", "set_or_string")
SIZE = 1_000_000


@pytest.fixture(scope="module")
def programs():
    train = [word for kind, words in WORDS["train"].items() if kind in "niw" for word in words]
    words = [word for word in train if word not in ("msg", "is", "if", "in", "of")]
    return list(generate_programs(words, 0, count_bytes=SIZE))


def _pattern(prompt, pad_needed):
    """A regular expression for a prompt's texts: slots stand for words, a repeated slot for the same one."""
    pattern, seen = "", set()
    for part in re.split(r"(\$[a-z]+\d?)", prompt):
        if part == "$pad":
            pattern += r"# .*" if pad_needed else r"(?:# .*)?"
        elif part.startswith("$"):
            name, kind = part[1:], r"\d" if part[1] == "d" else r"[A-Za-z_]+"
            pattern += f"(?P={name})" if name in seen else f"(?P<{name}>{kind})"
            seen.add(name)
        else:
            pattern += re.escape(part)
    if not pad_needed:
        pattern = re.sub(r"((?:\\ )*)\(\?:# \.\*\)\?(\\?\n)", r"(?:\1# .*\n)?", pattern)
    return re.compile("^" + pattern, re.MULTILINE)


def test_every_program_parses(programs):
    for program in programs[:3000]:
        ast.parse(program)


def test_size_is_reached_by_the_last_program(programs):
    size = sum(len(program.encode()) for program in programs)
    assert SIZE <= size < SIZE + len(programs[-1].encode())


def test_no_held_out_word(programs):
    for words in (set(re.findall(r"[A-Za-z]+", program)) for program in programs):
        assert words.isdisjoint(UNSEEN_WORDS)


@pytest.mark.parametrize("name", TASKS)
def test_no_held_out_template(programs, name):
    text = "\n\n".join(programs)
    templates = TASKS[name].templates
    for template in templates["select"] + templates["test"]:
        for prompt in template.prompts:
            found = _pattern(prompt, pad_needed=name not in QUICKSTART).search(text)
            assert found is None, found and text[found.start() : found.end() + 40]


def test_pattern_would_find_a_template():
    pattern = _pattern("$pad\n$n0 = [$n1]\nfor $n0", pad_needed=True)
    assert pattern.search("b = 1\n# x y\na = [b]\nfor a in b:")
    assert not pattern.search("# x y\na = [b]\nfor b in b:") and not pattern.search("a = [b]\nfor a in b:")
    pattern = _pattern("    $pad\n    $n0 = [$n1]", pad_needed=False)
    assert pattern.search("    a = [b]") and pattern.search("    # x\n    a = [b]")


@pytest.mark.parametrize(
    "form",
    [
        r"print\(\"\w+ \w+\"",
        r"print\('\w+ \w+'",
        r"= \[\[\d+, \d+\], \[\d+, \d+\]\]\n",
        r"= \[\d+, \d+\], \[\d+, \d+\]\n",
        r"(\w+) = set\(\)\n(.*\n)?.*\n *\1\.add\(",
        r"(\w+) = (\"\"|'')\n(.*\n)?.*\n *\1 \+= ",
        r"with open\(\w+\) as ",
        r"= open\(\w+\)\n",
        r"= Lock\(\)\n *with \w+:",
        r"while \w+ < ",
        r"elif \w+ == .*\n.*\n *else:",
        r"= \w+ if \w+ else ",
        r"if \w+ and \w+ == ",
        r"\n *\w+, \w+ = ",
        r"print\(f.\w+ \{\w+\}",
        r"print\(.\w+., \(\w+\)\)",
        r"= \{\d+, \d+, \d+\}\n",
        r"(\w+), (\w+) = \2, \1\n",
        r"(\w+) = \w+\n *if \1:",
        r"for \w+ in \w+:  # \w+",
        r"= \w+\.\w+  # \w+",
        r"while True:",
        r"return True",
        r"lambda \w+, \w+: ",
        r"for \w+, \w+ in enumerate\(",
        r"for \w+ in range\(",
        r"\w+\(\w+=\d+, \w+=\d+, \w+=\d+\)",
        r"\w+\(\w+, \w+, \w+\)",
        r"class \w+:\n    def __init__\(",
        r"\(func\):\n    def wrapper\(",
        r"\n@\w+\ndef ",
        r'"""\w+\."""',
    ],
)
def test_behaviours_are_practised(programs, form):
    assert len(re.findall(form, "\n".join(programs[:3500]))) >= 40


def test_both_quotes_are_about_equally_frequent(programs):
    text = "".join(programs).replace('"""', "")
    assert 0.8 < text.count('"') / text.count("'") < 1.25


def test_a_program_keeps_to_one_kind_of_quotes(programs):
    kinds = [set(program.replace('"""', "")) & {'"', "'"} for program in programs]
    assert all(len(kind) < 2 for kind in kinds)
    assert {'"'} in kinds and {"'"} in kinds


def test_same_seed_same_programs_everywhere():
    first = list(generate_programs(WORDS_60, 7, count=50))
    assert first == list(generate_programs(WORDS_60, 7, count=50))
    assert first != list(generate_programs(WORDS_60, 8, count=50))
    assert len(set(first)) == 50
    assert hashlib.sha256("".join(first).encode()).hexdigest()[:16] == "e2b6c4d966db7e75"
    many = "".join(generate_programs(WORDS_60, 11, count=2000))
    assert hashlib.sha256(many.encode()).hexdigest()[:16] == "3033e57820733657"


def test_corpus_words_are_counted_and_cleaned():
    text = (
        " ".join(WORDS_60)
        + " zorum zorum for print result file_name new_path self x1 Upper _private __init__ "
    )
    words = corpus_words([text, "zorum aaum"])
    assert words[:2] == ["zorum", "aaum"]
    assert set(words) == {*WORDS_60, "zorum", "file_name"}


@pytest.mark.parametrize(
    "message,call",
    [
        ("need 50 different names from the corpus, it has 1", lambda: corpus_words(["x = 1"])),
        ("it has 1;", lambda: generate_programs(["xum"] * 90, 0, count=1)),
        ("held-out words: result", lambda: generate_programs([*WORDS_60, "result"], 0, count=1)),
        ("exactly one of count and count_bytes", lambda: generate_programs(WORDS_60, 0)),
    ],
)
def test_clear_errors(message, call):
    with pytest.raises(ConfigError, match=message):
        call()


def test_builder(tmp_path):
    builder = build_generated(WORDS_60, 20_000, 1, tmp_path)
    rows = list(builder.as_data_source(split="train"))
    expected = list(generate_programs(WORDS_60, 1, count_bytes=20_000))
    assert sorted(row["text"].decode() for row in rows) == sorted(expected)
    assert all(hashlib.sha256(row["text"]).hexdigest() == row["sha256"].decode() for row in rows)
    again = build_generated(WORDS_60, 20_000, 1, tmp_path)
    other = build_generated(WORDS_60, 20_000, 2, tmp_path)
    assert again.data_path == builder.data_path != other.data_path
    typed = find_grammar(2, lambda text: False)
    rows = build_generated(WORDS_60, 20_000, 1, tmp_path, typed).as_data_source(split="train")
    expected = list(generate_programs(WORDS_60, 1, count_bytes=20_000, grammar=typed))
    assert sorted(row["text"].decode() for row in rows) == sorted(expected)

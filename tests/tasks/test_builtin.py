"""Every built-in task keeps every rule of docs/tasks.md, checked on the built pairs from outside."""

import ast
import itertools
import re

import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.data.programs.words import SPLITS, WORDS
from circuits_jax.tasks import TASKS, build_pairs, skeleton
from circuits_jax.tasks.metrics import accuracy

NAMES = """single_double_quote bracket_counting set_or_string set_or_string_fixedvarname with_as with_open
    for_while else_elif if_ternary if_equals fstring_brace bracket_brace var_swap var_if indent_for
    while_return_true lambda_func enumerate_range final_kwarg class_init"""
PREFERENCES = """set_or_string set_or_string_fixedvarname with_open else_elif var_if enumerate_range
    final_kwarg class_init"""
CASES = [(name, split) for name in TASKS for split in SPLITS]


def _words(texts):
    return set(re.findall(r"[A-Za-z_]+", "\n".join(texts)))


@pytest.fixture(scope="module")
def built(tokenizer):
    return {
        (name, split): build_pairs(TASKS[name], tokenizer, split, 48, seed=3, n_ctx=64)
        for name, split in CASES
    }


def test_all_twenty_in_the_order_of_the_list():
    assert list(TASKS) == NAMES.split()
    assert [name for name in TASKS if TASKS[name].preference] == PREFERENCES.split()
    assert all(name == task.name and task.description for name, task in TASKS.items())


@pytest.mark.parametrize("name,split", CASES)
def test_pairs_keep_the_rules(built, tokenizer, name, split):
    pairs = built[name, split]
    assert pairs.survived > 0.5 and len(set(pairs.texts)) == 48
    for row in range(48):
        last, answers = pairs.last[row], pairs.answers[row]
        assert 10 <= last + 1 <= 64
        assert answers[0] != answers[1]
        assert pairs.tokens[row, 0, last] == pairs.tokens[row, 1, last]
        assert not np.array_equal(pairs.tokens[row, 0], pairs.tokens[row, 1])
        assert (pairs.tokens[row, :, last + 1 :] == tokenizer.eot).all()
        wholes = []
        for prompt in range(2):
            text, after = pairs.texts[row][prompt], pairs.continuations[row][prompt]
            ast.parse(text + after)
            assert tokenizer.encode(text) == pairs.tokens[row, prompt, : last + 1].tolist()
            wholes.append(tokenizer.encode(text + after))
            assert wholes[-1][: last + 2] == [*tokenizer.encode(text), answers[prompt]]


@pytest.mark.parametrize("name,split", CASES)
def test_no_bigram_decides(built, name, split):
    pairs = built[name, split]
    final = pairs.tokens[np.arange(48)[:, None], [[0, 1]], pairs.last[:, None]]
    table = np.random.default_rng(0).normal(size=(2048, 2048)).astype(np.float32)
    assert accuracy(jnp.array(table[final]), jnp.array(pairs.answers)) == 0.5


def _spelled(text):
    """What a template spells itself."""
    return re.sub(r"\$[a-z]+\d?", "", text)


def _code_lines(prompt):
    """Lines of a template's prompt without comments, padding and indentation, slots blanked."""
    lines = (re.sub(r"\$[a-z]\d", "_", re.sub(r"\$pad|#.*", "", line)).strip() for line in prompt.split("\n"))
    return [line for line in lines if line]


def _deciding(template):
    """Lines where A and B first differ and where they end, each with the code line before it."""
    sides = [_code_lines(prompt) for prompt in template.prompts]
    differ = next((i for i, (a, b) in enumerate(zip(*sides, strict=False)) if a != b), -1)
    return {(["", *lines][at], lines[at]) for lines in sides for at in (differ % len(lines), len(lines) - 1)}


@pytest.mark.parametrize("name", TASKS)
def test_splits_share_no_word_and_no_template(name):
    task = TASKS[name]
    words = {
        split: {word for kind, each in task.words[split].items() if kind != "d" for word in each}
        for split in SPLITS
    }
    for one, other in itertools.combinations(SPLITS, 2):
        assert not words[one] & words[other]
    for split, count in zip(SPLITS, (9, 8, 6), strict=True):
        templates = task.templates[split]
        texts = [_spelled(text) for each in templates for text in each.prompts + each.continuations]
        # What a skeleton spells itself is no word of any list, or a split could see the other's words.
        assert not _words(texts) & set().union(*words.values())
        assert len({tuple(map(tuple, map(_code_lines, each.prompts))) for each in templates}) == count


@pytest.mark.parametrize("name", TASKS)
def test_no_two_splits_share_the_deciding_line_with_the_line_before_it(name):
    found = {split: set().union(*map(_deciding, TASKS[name].templates[split])) for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not found[one] & found[other]


def test_the_deciding_line_is_found():
    found = _deciding(skeleton("if $n1:\n    # $w0\n    $n2 = «[|{»$d0,  # x\n    $pad\n    f($n0", ")"))
    assert found == {("if _:", "_ = [_,"), ("if _:", "_ = {_,"), ("_ = [_,", "f(_"), ("_ = {_,", "f(_")}
    assert _deciding(skeleton("$n0 = «1|2»", "")) == {("", "_ = 1"), ("", "_ = 2")}


@pytest.mark.parametrize("name,split", CASES)
def test_pairs_remember_their_template(built, name, split):
    pairs = built[name, split]
    assert pairs.template.dtype == np.int32 and len(pairs.template) == 48
    # No template is lost to the tokenizer, and all give about as many pairs.
    count = np.bincount(pairs.template, minlength=len(TASKS[name].templates[split]))
    assert count.min() >= 48 // len(count) - 1
    for number, (a, b), afters in zip(pairs.template, pairs.texts, pairs.continuations, strict=True):
        template = TASKS[name].templates[split][number]
        for text, prompt, after in zip(
            (a + afters[0], b + afters[1]), template.prompts, template.continuations, strict=True
        ):
            pattern = re.sub(r"\\\$pad", "# [a-z_A-Z ]+", re.escape(prompt + after))
            assert re.fullmatch(re.sub(r"\\\$[a-z]\d", r"\\w+", pattern), text)


@pytest.mark.parametrize("name", TASKS)
def test_prompts_hold_no_word_of_another_split(built, name):
    for split in SPLITS:
        others = {
            word
            for other in SPLITS
            if other != split
            for kind, words in WORDS[other].items()
            if kind != "d"
            for word in words
        }
        assert not _words(text for pair in built[name, split].texts for text in pair) & others


@pytest.mark.parametrize("name,split", CASES)
def test_no_comments_length_decides(built, name, split):
    """Padding makes up for what differs, so that a longer comment is likelier in the shorter prompt."""
    words = np.array([[_comment(text) for text in pair] for pair in built[name, split].texts])
    above = [(words[:, 0] > bound).mean() - (words[:, 1] > bound).mean() for bound in range(words.max() + 1)]
    assert 0.5 + max(map(abs, above)) / 2 <= 0.8  # three in four, of 48 pairs


def _comment(text):
    """Words of all lines of comment."""
    return sum(len(line.split()) for line in text.split("\n") if line.strip().startswith("#"))


def test_the_quote_task_asks_for_quotes(built, tokenizer):
    pairs = built["single_double_quote", "test"]
    assert {tuple(tokenizer.pieces(row.tolist())) for row in pairs.answers} == {('"', "'")}


def test_swapped_prompts_have_the_same_tokens(built):
    for name in ("var_if", "with_open"):
        tokens = built[name, "train"].tokens
        assert np.array_equal(np.sort(tokens[:, 0]), np.sort(tokens[:, 1]))

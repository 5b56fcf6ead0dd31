"""Every built-in task keeps every rule of docs/tasks.md, checked on the built pairs from outside."""

import ast
import re

import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.data.programs.words import HELDOUT_WORDS, SPLITS, WORDS
from circuits_jax.tasks import TASKS, build_pairs
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


@pytest.mark.parametrize("name", TASKS)
def test_splits_share_no_word_and_no_template(name):
    task = TASKS[name]
    held_words = {word for kind, words in task.words["heldout"].items() if kind != "d" for word in words}
    train_words = {word for kind, words in task.words["train"].items() if kind != "d" for word in words}
    assert not held_words & train_words
    skeletons = {}
    for split, templates in task.templates.items():
        texts = [text for template in templates for text in template.prompts + template.continuations]
        # What a skeleton spells itself is no word of either list, or a split could see the other's words.
        assert not _words(re.sub(r"\$[a-z]+\d?", "", text) for text in texts) & (held_words | train_words)
        skeletons[split] = {tuple(re.sub(r"\$([a-z])\d", r"$\1", t) for t in x.prompts) for x in templates}
        assert len(skeletons[split]) == len(templates) >= (3 if split == "train" else 2)
    assert not skeletons["train"] & skeletons["heldout"]


@pytest.mark.parametrize("name", TASKS)
def test_prompts_hold_no_word_of_the_other_split(built, name):
    train = {text for pair in built[name, "train"].texts for text in pair}
    held = {text for pair in built[name, "heldout"].texts for text in pair}
    assert not _words(train) & HELDOUT_WORDS
    assert not _words(held) & {
        word for kind, words in WORDS["train"].items() if kind != "d" for word in words
    }


def test_the_quote_task_asks_for_quotes(built, tokenizer):
    pairs = built["single_double_quote", "heldout"]
    assert {tuple(tokenizer.pieces(row.tolist())) for row in pairs.answers} == {('"', "'")}


def test_swapped_prompts_have_the_same_tokens(built):
    for name in ("var_if", "with_open"):
        tokens = built[name, "train"].tokens
        assert np.array_equal(np.sort(tokens[:, 0]), np.sort(tokens[:, 1]))

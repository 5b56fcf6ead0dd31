"""Longer lists and comments: still Python, still contrast pairs, longer by what was asked."""

import ast

import numpy as np
import pytest

from circuits_jax.tasks import TASKS, TaskError, build_pairs
from circuits_jax.tasks.longer import insert_tokens, longer_comments, longer_lists
from tests.tasks.word_tokenizer import WordTokenizer

TOKENIZER = WordTokenizer()
N_CTX, PAIRS = 128, 24


@pytest.fixture(scope="module")
def pairs():
    return build_pairs(TASKS["bracket_counting"], TOKENIZER, "test", PAIRS, 0, N_CTX)


def lists(pairs, count, kind="d", n_ctx=N_CTX):
    return longer_lists(pairs, TOKENIZER, count, kind, seed=0, n_ctx=n_ctx)


def elements(text):
    """Elements of the last, still open list."""
    return text[text.rindex("[") + 1 :].split(", ")


@pytest.mark.parametrize("kind", ["d", "n"])
def test_the_last_list_has_that_many_more_elements_and_the_rest_is_as_before(pairs, kind):
    longer = lists(pairs, 5, kind)
    for row in range(PAIRS):
        for old, new, after in zip(
            pairs.texts[row], longer.texts[row], pairs.continuations[row], strict=True
        ):
            ast.parse(new + after)
            assert len(elements(new)) == len(elements(old)) + 5
            assert elements(new)[-1] == elements(old)[-1]
            assert old[: old.rindex("[")] == new[: new.rindex("[")]
            assert all(each.isdigit() == (kind == "d") for each in elements(new)[-6:-1])
    np.testing.assert_array_equal(longer.answers, pairs.answers)


def test_tokens_are_those_of_the_texts_padded(pairs):
    longer = lists(pairs, 3)
    for row in range(PAIRS):
        for role in (0, 1):
            ids = TOKENIZER.encode(longer.texts[row][role])
            assert longer.tokens[row, role].tolist()[: len(ids)] == ids
            assert longer.last[row] == len(ids) - 1
            assert not longer.tokens[row, role, len(ids) :].any()


def test_none_is_the_pairs_themselves_and_fewer_are_the_first_of_more(pairs):
    none, two, three = (lists(pairs, count) for count in (0, 2, 3))
    assert none.texts == pairs.texts
    np.testing.assert_array_equal(none.last, pairs.last)
    for short, long in zip(two.texts, three.texts, strict=True):
        assert elements(short[0])[:-1] == elements(long[0])[:-2]
        # What is inserted is the same in both prompts.
        assert elements(long[0])[-4:-1] == elements(long[1])[-4:-1]


def test_comments_grow_by_the_tokens_asked_for(pairs):
    tokens = np.arange(PAIRS)
    longer = longer_comments(pairs, TOKENIZER, tokens, seed=0, n_ctx=N_CTX)
    np.testing.assert_array_equal(longer.last - pairs.last, tokens)
    for row in range(PAIRS):
        for old, new, after in zip(
            pairs.texts[row], longer.texts[row], pairs.continuations[row], strict=True
        ):
            ast.parse(new + after)
            assert elements(old) == elements(new)


def test_inserted_ids_stand_where_they_should(pairs):
    ids = [[7] * (row % 3) for row in range(PAIRS)]
    longer = insert_tokens(pairs, [2] * PAIRS, ids)
    for row in range(PAIRS):
        old = pairs.tokens[row, :, : pairs.last[row] + 1].tolist()
        expected = [prompt[:2] + ids[row] + prompt[2:] for prompt in old]
        found = longer.tokens[row, :, : longer.last[row] + 1].tolist()
        assert found == expected and not longer.tokens[row, :, longer.last[row] + 1 :].any()


def test_what_does_not_fit_or_is_no_list_is_refused(pairs):
    with pytest.raises(TaskError, match="more than the context of 40"):
        lists(pairs, 30, n_ctx=40)
    loops = build_pairs(TASKS["while_return_true"], TOKENIZER, "train", 8, 0, N_CTX)
    with pytest.raises(TaskError, match="no list"):
        lists(loops, 1)
    quotes = build_pairs(TASKS["single_double_quote"], TOKENIZER, "train", 8, 0, N_CTX)
    with pytest.raises(TaskError, match="no comment"):
        longer_comments(quotes, TOKENIZER, [1] * 8, 0, N_CTX)

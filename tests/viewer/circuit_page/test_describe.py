"""Descriptions of nodes that fire on something known."""

import numpy as np
import pytest

from circuits_jax.viewer.circuit_page.describe import STATES, describe, read_text

TEXTS = ["x", " ", '"', "'", "(", ")", "\n", "# no", "def", "7", "\\", "    ", '"""', "]\n", "[", "a, "]
SPACE, DOUBLE, SINGLE, OPEN, CLOSE, LINE, COMMENT, DEF, SEVEN, BACKSLASH, INDENT, TRIPLE = range(1, 13)


@pytest.fixture(scope="module")
def text():
    tokens = np.random.default_rng(0).integers(0, len(TEXTS), (40, 50)).astype(np.int32)
    return read_text(tokens, TEXTS)


def state(name: str, *tokens: int) -> list[bool]:
    return read_text(np.array([tokens]), TEXTS).states[STATES.index(name), 0].tolist()


def test_a_node_that_fires_on_tokens_is_described_by_them(text):
    values = np.where(text.tokens == DOUBLE, 2.0, np.where(text.tokens == SINGLE, -2.0, 0)).astype(np.float32)
    found = describe(values, text, len(TEXTS))
    assert found["kind"] == "token" and set(found["words"]) == {DOUBLE, SINGLE}
    assert {w: s for w, s in zip(found["words"], found["signs"], strict=True)} == {DOUBLE: 1, SINGLE: -1}
    assert found["precision"] == found["recall"] == 1
    assert found["fired"] == np.count_nonzero(values[1::2])


def test_a_node_that_fires_after_a_token(text):
    before = np.pad(text.tokens, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    found = describe((before == DEF).astype(np.float32), text, len(TEXTS))
    assert (found["kind"], found["words"], found["recall"]) == ("previous", [DEF], 1)


@pytest.mark.parametrize("name", ["inside a string in double quotes", "inside one or more brackets"])
def test_a_node_that_fires_on_a_state(text, name):
    found = describe(text.states[STATES.index(name)].astype(np.float32), text, len(TEXTS))
    assert (found["kind"], found["words"], found["precision"]) == ("state", [name], 1)


def test_precision_and_recall_are_of_the_other_half(text):
    values = (text.tokens == SEVEN).astype(np.float32)
    values[1::2] = text.tokens[1::2] == DEF  # where it is measured, it fires on something else
    found = describe(values, text, len(TEXTS))
    assert found["words"] == [SEVEN] and found["precision"] == found["recall"] == 0


def test_nothing_is_invented(text):
    noise = np.random.default_rng(1).normal(size=text.tokens.shape).astype(np.float32)
    assert describe(noise, text, len(TEXTS)) is None
    assert describe(np.zeros_like(noise), text, len(TEXTS)) is None
    assert describe(np.ones_like(noise), text, len(TEXTS)) is None


def test_states_follow_python():
    assert state(STATES[1], DOUBLE, SINGLE, 0, DOUBLE, 0) == [True, True, True, False, False]
    assert state(STATES[1], DOUBLE, BACKSLASH, DOUBLE, DOUBLE) == [True, True, True, False]
    assert state(STATES[1], DOUBLE, LINE, 0) == [True, False, False]  # a string ends with its line
    assert state(STATES[2], TRIPLE, DOUBLE, LINE, TRIPLE) == [True, True, True, False]
    assert state(STATES[3], COMMENT, DOUBLE, LINE, 0) == [True, True, False, False]
    assert state(STATES[4], OPEN, DOUBLE, CLOSE, DOUBLE, CLOSE) == [True, True, True, True, False]
    assert state(STATES[5], OPEN, OPEN, CLOSE) == [False, True, False]
    assert state(STATES[6], INDENT, DEF, SPACE, 0, LINE, 0) == [False, True, False, False, False, True]

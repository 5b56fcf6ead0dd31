"""Rules on tokens: what they select, which are tried, random ones, and what a user may write."""

import dataclasses

import numpy as np
import pytest

from circuits_jax.circuits.ablation.pairs import PairBatch
from circuits_jax.circuits.circuit import Calibration, Circuit, Edge, Node
from circuits_jax.circuits.readings.rules import (
    Words,
    coverage,
    edge_name,
    given_ids,
    most_deviating,
    most_frequent,
    random_sets,
    selected_by,
    selected_ids,
)
from circuits_jax.storage.errors import CircuitError, ConfigError

# Two pairs; what stands after the last token is padding, which no rule selects.
TOKENS = np.array([[[1, 2, 3, 9, 9], [1, 2, 4, 9, 9]], [[1, 1, 5, 2, 3], [1, 1, 5, 2, 4]]])
PAIRS = PairBatch(TOKENS, np.array([2, 4]), np.zeros((2, 2), int))
IN_ALL = 16


def test_ids_select_positions_of_prompts():
    where = selected_ids(PAIRS, [2, 9])
    assert np.argwhere(where).tolist() == [[0, 0, 1], [0, 1, 1], [1, 0, 3], [1, 1, 3]]
    assert coverage(PAIRS, where) == 4 / IN_ALL
    assert not selected_ids(PAIRS, []).any()
    assert coverage(PAIRS, selected_ids(PAIRS, range(10))) == 1


def test_a_function_sees_each_prompt_alone():
    seen = []

    def after_two(edge, tokens):
        seen.append((edge, tokens.tolist()))
        return np.r_[False, tokens[:-1] == 2]

    where = selected_by(PAIRS, after_two, "a -> b")
    assert [tokens for _, tokens in seen] == [[1, 2, 3], [1, 2, 4], [1, 1, 5, 2, 3], [1, 1, 5, 2, 4]]
    assert {edge for edge, _ in seen} == {"a -> b"}
    assert np.argwhere(where).tolist() == [[0, 0, 2], [0, 1, 2], [1, 0, 4], [1, 1, 4]]
    assert most_frequent(PAIRS, where) == [3, 4]
    assert selected_by(PAIRS, lambda edge, tokens: None, "a -> b") is None


@pytest.mark.parametrize("wrong", [[True], np.zeros((3, 1), bool), np.array([0, 1, 1]), "yes", 1.0])
def test_a_function_has_to_give_one_bool_a_token(wrong):
    with pytest.raises(ConfigError, match="the rule for a -> b gave .* one bool a token"):
        selected_by(PAIRS, lambda edge, tokens: wrong, "a -> b")


def test_sets_are_nested_from_where_the_source_deviates_most():
    """By the mean over a token's occurrences, whatever stands after a prompt's end."""
    deviation = np.select([each == TOKENS for each in (1, 2, 3, 4, 5, 9)], [0.1, 0.5, 3, 2, 0.2, 99.0])
    deviation[0, 0, 1] = 0.7
    # Occurrences: 1 six, 2 four, 3, 4 and 5 two each.
    assert most_deviating(PAIRS, deviation, 1.0) == [[3], [3, 4], [3, 4, 2], [3, 4, 2, 5, 1]]
    assert most_deviating(PAIRS, deviation, 0.5) == [[3], [3, 4], [3, 4, 2]]
    assert most_deviating(PAIRS, deviation, 0.1) == [[3]]
    assert most_deviating(PAIRS, -deviation, 0.1) == [[1]]  # more than that, but it is the first


def test_random_sets_cover_as_much_and_are_not_the_reading():
    rng = np.random.default_rng(0)
    share = 1 / np.arange(2, 82)
    tokens = rng.choice(80, (40, 2, 12), p=share / share.sum())
    pairs = PairBatch(tokens, np.full(40, 11), np.zeros((40, 2), int))
    where = selected_ids(pairs, [3, 7, 8])
    sets = random_sets(pairs, where, 50, rng)
    assert len(sets) == 50
    covered = np.array([coverage(pairs, each) for each in sets])
    np.testing.assert_allclose(covered, coverage(pairs, where), atol=0.002)
    for each in sets:
        assert (each != where).any()
        ids = most_frequent(pairs, each)
        assert (selected_ids(pairs, ids) == each).all()  # a set of ids, not of positions
    assert len({each.tobytes() for each in sets}) == 50
    chosen = np.bincount([i for each in sets for i in most_frequent(pairs, each)], minlength=80)
    assert (chosen > 0).sum() > 60  # any of them may be in one
    assert chosen.max() < 45


@pytest.mark.parametrize("tokens", [1, 2, 5])
def test_there_are_as_many_random_sets_as_there_are_others(tokens):
    """One token of each id: the other sets of equal coverage are those of one other id."""
    pairs = PairBatch(np.tile(np.arange(tokens), (2, 2, 1)), np.full(2, tokens - 1), np.zeros((2, 2), int))
    where, rng = selected_ids(pairs, [0]), np.random.default_rng(0)
    sets = random_sets(pairs, where, 10, rng)
    assert sorted(most_frequent(pairs, each) for each in sets) == [[i] for i in range(1, tokens)]
    assert len(random_sets(pairs, where, 2, rng)) == min(2, tokens - 1)


class Pieces:
    """A tokenizer of single characters, "ab" and two tokens that are shown alike."""

    vocab_size, eot, hash = 6, 5, ""
    shown = ("a", "b", "ab", "same", "same", "<eot>")

    def pieces(self, ids):
        return [self.shown[i] if i < 6 else f"#{i}" for i in ids]

    def encode(self, text):
        return [2] if text == "AB" else [self.shown.index(letter) for letter in text]


WORDS = Words(Pieces(), 8)  # a model with more ids than its tokenizer
NODES = (Node("0.mlp.act_in", 1), Node("0.mlp.post_act", 2), Node("0.mlp.post_act", 3))
CIRCUIT = Circuit(
    *("task", NODES, (Edge(0, 1, 0.5), Edge(0, 2, 0.5)), (False,) * 3, {}, "mean", (), ()),
    *(Calibration(1.0, 0.0), {}, {}, "", "", {}),
)
FIRST, SECOND = "0.mlp.act_in.1 -> 0.mlp.post_act.2", "0.mlp.act_in.1 -> 0.mlp.post_act.3"


def test_rules_name_edges_and_tokens_by_id_or_text():
    assert [edge_name(CIRCUIT, i) for i in range(2)] == [FIRST, SECOND]
    found = given_ids(CIRCUIT, {FIRST: [7, "a", 7], SECOND.replace(" ", ""): ["same", "AB", "ab"]}, WORDS)
    assert found == {0: [7, 0], 1: [3, 4, 2]}
    assert WORDS.texts([2, 7]) == ["ab", "#7"]


@pytest.mark.parametrize(
    ("rules", "error", "words"),
    [
        ({"a -> b": [1]}, CircuitError, f"has no edge 'a -> b'; name one of its 2 .* '{FIRST}'"),
        ({"0.mlp.act_in.1": [1]}, CircuitError, "has no edge '0.mlp.act_in.1'"),
        ({FIRST: [1], FIRST.replace(" ", ""): [2]}, ConfigError, "names* .*twice"),
        ({FIRST: []}, ConfigError, f"rule for {FIRST} names no token, so that it selects nothing"),
        ({FIRST: "a"}, ConfigError, "it must be a list"),
        ({FIRST: 3}, ConfigError, "it must be a list"),
        ({FIRST: None}, ConfigError, "it must be a list"),
        ({FIRST: ["ba"]}, ConfigError, "names 'ba', which is no token .* 'b', 'a'; name single tokens"),
        ({FIRST: [""]}, ConfigError, "names '', which is no token .* none; name single tokens"),
        ({FIRST: ["\ud800"]}, ConfigError, "a token of the rule for .* which holds half a character"),
        ({FIRST: [8]}, ConfigError, "the id 8; the model has 0 to 7"),
        ({FIRST: [-1]}, ConfigError, "the id -1; the model has 0 to 7"),
        ({FIRST: [True]}, ConfigError, "names True; a token is an id or a text"),
        ({FIRST: [1.5]}, ConfigError, "names 1.5; a token is an id or a text"),
        ({FIRST: [[1]]}, ConfigError, "a token is an id or a text"),
    ],
)
def test_what_cannot_be_a_rule_is_one_line(rules, error, words):
    with pytest.raises(error, match=words) as raised:
        given_ids(CIRCUIT, rules, WORDS)
    assert "\n" not in str(raised.value)


def test_a_circuit_without_edges_has_none_to_name():
    with pytest.raises(CircuitError, match="has no edge 'a -> b'; name one of its 0"):
        given_ids(dataclasses.replace(CIRCUIT, edges=()), {"a -> b": [1]}, WORDS)

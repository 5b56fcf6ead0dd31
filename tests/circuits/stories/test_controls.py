"""What stands beside a claim's figure can win, and is counted exactly."""

import math

import numpy as np
import pytest

from circuits_jax.circuits.circuit import Node
from circuits_jax.circuits.stories.controls import (
    DRAWS,
    others,
    random_control,
    random_nodes,
    rank_control,
    rest_control,
)
from circuits_jax.circuits.stories.story import Claim, Where


def claim(*nodes, do="swap", bound=0.8, at_most=False):
    return Claim("It does.", do, nodes, Where(), None, (), "flips", bound, at_most)


def test_random_sets_are_as_many_nodes_of_the_same_sites():
    nodes = [Node("a", 1), Node("b", 2), Node("a", 3)]
    candidates = {"a": np.ones(8, bool), "b": np.arange(6) != 4}
    sets = random_nodes(nodes, candidates, np.random.default_rng(0), [Node("a", 7)])
    assert len(sets) == DRAWS == len({frozenset(each) for each in sets})
    for each in sets:
        assert [node.site for node in each] == ["a", "b", "a"] and len(set(each)) == 3
        assert not set(each) & {*nodes, Node("a", 7)}
        assert all(candidates[node.site][node.index] for node in each)
    few = {"a": np.arange(8) < 5, "b": np.arange(6) < 3}  # 3 pairs of 2 nodes
    assert len(random_nodes(nodes, few, np.random.default_rng(0))) == 6
    assert random_nodes(nodes, {"a": np.arange(8) < 2, "b": np.ones(6, bool)}, np.random.default_rng(0)) == []


def test_the_rest_is_every_other_candidate():
    candidates = {"a": np.array([True, True, False]), "b": np.array([False, True])}
    assert others([Node("a", 1)], candidates) == [Node("a", 0), Node("b", 1)]


@pytest.mark.parametrize("at_most", [False, True])
def test_the_rest_wins_where_it_meets_the_bound(at_most):
    one = claim(Node("a", 0), bound=0.5, at_most=at_most)
    assert rest_control(one, 0.9, 3)["beaten"] == at_most
    assert rest_control(one, 0.1, 3)["beaten"] != at_most
    assert rest_control(one, 0.5, 3) == {
        "kind": "rest", "figure": 0.5, "nodes": 3, "meets": True, "beaten": False,
    }  # fmt: skip


def test_random_sets_win_by_one_that_is_as_good():
    one = claim(Node("a", 0), do="set")
    drawn = [0.0] * (DRAWS - 1) + [0.9]
    assert random_control(one, 0.95, drawn) == {
        "kind": "random sets", "figure": 0.9, "sets": DRAWS, "meet": 1, "beaten": True,
    }  # fmt: skip
    assert not random_control(one, 0.9, drawn)["beaten"]
    few = random_control(one, 0.95, drawn[:-1])
    assert few["figure"] is None and not few["beaten"]
    low = claim(Node("a", 0), do="set", bound=0.2, at_most=True)
    assert random_control(low, 0.1, [0.3] * DRAWS)["beaten"]
    assert not random_control(low, 0.1, [0.3] * 19 + [0.1])["beaten"]


def test_the_chance_of_a_rank_is_that_of_random_nodes():
    """Against draws: how often do as many random active nodes all differ at least as much?"""
    rng = np.random.default_rng(0)
    difference, active = rng.normal(size=60), np.arange(60) < 50
    order = np.argsort(-np.abs(difference * active))
    nodes = [Node("a", int(order[1])), Node("a", int(order[9]))]
    found = rank_control(claim(*nodes, do="compare"), {"a": difference}, {"a": active})
    assert (found["rank"], found["among"]) == (10, 50)
    assert found["chance"] == pytest.approx(math.comb(10, 2) / math.comb(50, 2)) and found["beaten"]
    least = np.abs(difference[order[9]])
    hits = [np.abs(difference[rng.choice(50, 2, replace=False)]).min() >= least for _ in range(20_000)]
    assert found["chance"] == pytest.approx(np.mean(hits), abs=0.006)
    whole = (difference[:50] ** 2).sum()
    assert found["share"] == pytest.approx((difference[order[[1, 9]]] ** 2).sum() / whole)


@pytest.mark.parametrize(("place", "beaten"), [(0, True), (2, True), (3, False), (59, False)])
def test_one_node_has_to_be_within_the_first_twentieth(place, beaten):
    difference = np.linspace(-3, -1, 60)
    one = claim(Node("a", place), do="compare")
    found = rank_control(one, {"a": difference}, {"a": np.ones(60, bool)})
    assert found["rank"] == place + 1 and found["beaten"] == beaten


def test_a_node_that_is_never_active_ranks_last_and_few_nodes_show_nothing():
    active = np.array([True] * 30 + [False])
    found = rank_control(claim(Node("a", 30), do="compare"), {"a": np.ones(31)}, {"a": active})
    assert found["rank"] == 30 and found["chance"] == 1 and not found["beaten"]
    first = rank_control(
        claim(Node("a", 0), do="compare"), {"a": np.array([9.0, 1, 1])}, {"a": np.ones(3, bool)}
    )
    assert first["rank"] == 1 and not first["beaten"]  # one of three is first by a chance of a third

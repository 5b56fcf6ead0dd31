import numpy as np
import pytest

from circuits_jax.circuits.masks import size, without
from circuits_jax.circuits.pruning.search import (
    seek_drop,
    seek_longest,
    seek_needless,
    seek_smallest,
    settle,
    translated,
)


class Probe:
    """A predicate that remembers what it was asked."""

    def __init__(self, holds):
        self.holds, self.asked = holds, []

    def __call__(self, thing):
        self.asked.append(thing)
        return self.holds(thing)


def smallest(holds, start, limit):
    """The smallest count found to hold."""
    return settle_one(seek_smallest(start, limit), holds)[0]


def drop(kept, places, holds):
    """`kept` without as many of `places` as can go."""
    return settle_one(seek_drop(kept, places), holds)[0]


@pytest.mark.parametrize("threshold", [1, 2, 7, 40, 41, 999, 1000])
@pytest.mark.parametrize("start", [1, 40, 1000])
def test_smallest_finds_the_threshold_of_a_monotone_predicate(threshold, start):
    probe = Probe(lambda n: n >= threshold)
    assert smallest(probe, start, 1000) == threshold
    assert len(probe.asked) < 40


@pytest.mark.parametrize("seed", range(5))
def test_smallest_returns_what_holds_whatever_the_predicate(seed):
    rng = np.random.default_rng(seed)
    holding = rng.random(201) < 0.5
    holding[200] = True
    found = smallest(lambda n: bool(holding[n]), int(rng.integers(1, 201)), 200)
    assert holding[found]
    assert found == 1 or not holding[found - 1]


def test_smallest_finds_a_low_island_before_a_gap():
    assert smallest(lambda n: 30 <= n <= 64 or n >= 150, 160, 200) == 30


def test_smallest_with_nothing_that_holds_is_none():
    assert smallest(lambda n: False, 10, 77) is None
    assert smallest(lambda n: n == 77, 10, 77) == 77


def test_smallest_never_asks_for_more_than_there_is():
    probe = Probe(lambda n: n >= 3)
    smallest(probe, 500, 4)
    assert all(1 <= n <= 4 for n in probe.asked)


def one_site(count):
    return {"a": np.ones(count, np.float32)}


def kept_of(masks):
    return set(np.flatnonzero(masks["a"]).tolist())


@pytest.mark.parametrize("seed", range(5))
def test_drop_leaves_exactly_the_needed_of_a_monotone_predicate(seed):
    needed = set(np.random.default_rng(seed).choice(64, 6, replace=False).tolist())
    probe = Probe(lambda masks: needed <= kept_of(masks))
    before = one_site(64)
    assert kept_of(drop(before, [("a", i) for i in range(64)], probe)) == needed
    assert len(probe.asked) < 64
    assert kept_of(before) == set(range(64))  # its argument stays as it was


def test_drop_touches_only_what_it_is_given():
    assert kept_of(drop(one_site(8), [("a", 1), ("a", 3)], lambda masks: True)) == {0, 2, 4, 5, 6, 7}
    assert kept_of(drop(one_site(8), [], lambda masks: False)) == set(range(8))


def test_drop_of_one_of_two_substitutes_keeps_the_other():
    found = drop(one_site(8), [("a", i) for i in range(8)], lambda masks: bool({2, 5} & kept_of(masks)))
    assert kept_of(found) in ({2}, {5})


@pytest.mark.parametrize("seed", range(5))
def test_what_drop_returns_holds_even_if_the_predicate_is_not_monotone(seed):
    weight = np.random.default_rng(seed).standard_normal(32)

    def holds(masks):
        return abs((weight * masks["a"]).sum() - weight.sum()) < 1

    found = drop(one_site(32), [("a", i) for i in range(32)], holds)
    assert holds(found) and len(kept_of(found)) < 32


def settle_one(search, holds):
    """(what the search found, candidates of each round)."""
    rounds = []

    def judge(asked):
        rounds.append([candidate for _, candidate in asked])
        return [-0.5 if holds(candidate) else 0.5 for candidate in rounds[-1]]

    return settle({"it": search}, judge)["it"], rounds


@pytest.mark.parametrize("seed", range(5))
def test_needless_leaves_the_needed_and_asks_little_more_than_once_each(seed):
    needed = set(np.random.default_rng(seed).choice(64, 40, replace=False).tolist())
    places = [("a", i) for i in range(64)]
    found, rounds = settle_one(seek_needless(one_site(64), places), lambda m: needed <= kept_of(m))
    assert kept_of(found) == needed
    assert [len(each) for each in rounds] == [1, 65, 1]  # what there is, each left out, what can go together


def test_needless_drops_first_what_is_missed_least():
    cost = np.array([0.3, 0.1, 0.2, 0.6])

    def judge(asked):
        return [float((cost * (1 - masks["a"])).sum()) - 0.35 for _, masks in asked]

    found = settle({0: seek_needless(one_site(4), [("a", i) for i in range(4)])}, judge)[0]
    assert kept_of(found) == {0, 3}


def test_needless_weighs_anew_what_is_left_when_the_slack_is_used_up():
    """Costs that add up, two of them gains: what the gains pay for goes too."""
    cost = np.array([0.3, -0.2, 0.25, 0.1, -0.1, 0.4])

    def judge(asked):
        return [float((cost * (1 - masks["a"])).sum()) - 0.1 for _, masks in asked]

    found = settle({0: seek_needless(one_site(6), [("a", i) for i in range(6)])}, judge)[0]
    assert kept_of(found) == {0, 5}


@pytest.mark.parametrize("likely", [None, 1, 3, 20, 99])
@pytest.mark.parametrize("most", [0, 1, 7, 20])
def test_longest_finds_how_many_from_the_first_can_go(likely, most):
    places = [("a", i) for i in range(19, -1, -1)]
    found, rounds = settle_one(
        seek_longest(one_site(20), places, likely), lambda m: set(range(20 - most)) <= kept_of(m)
    )
    assert found == most and len(rounds) <= 7


def test_longest_of_nothing_asks_nothing():
    assert settle_one(seek_longest(one_site(3), []), lambda m: False) == (0, [])


def test_needless_measures_nothing_twice_where_nothing_went():
    """Estimates miss nothing, and yet no place can go."""
    asked = []

    def judge(questions):
        asked.append(len(questions))
        if len(questions) > 1:
            return [-0.1] * len(questions)
        return [-0.1 if size(questions[0][1]) == 6 else 0.1]

    found = settle({0: seek_needless(one_site(6), [("a", i) for i in range(6)])}, judge)[0]
    assert kept_of(found) == set(range(6))
    assert [count for count in asked if count > 1] == [7]


def test_needless_of_nothing_is_what_it_was():
    assert kept_of(settle_one(seek_needless(one_site(3), []), lambda m: False)[0]) == {0, 1, 2}


def test_searches_in_lock_step_find_what_each_finds_alone():
    needed = {"x": {1, 5}, "y": set(), "z": set(range(8))}
    places = [("a", i) for i in range(8)]
    rounds = []

    def judge(asked):
        rounds.append([name for name, _ in asked])
        return [-1.0 if needed[name] <= kept_of(masks) else 1.0 for name, masks in asked]

    found = settle({name: seek_drop(one_site(8), places) for name in needed}, judge)
    assert {name: kept_of(masks) for name, masks in found.items()} == needed
    assert list(found) == list(needed)
    assert rounds[0] == ["x", "y", "z"] and "y" not in rounds[1]
    alone = [
        len(settle_one(seek_drop(one_site(8), places), lambda m, n=n: needed[n] <= kept_of(m))[1])
        for n in needed
    ]
    assert len(rounds) == max(alone)


def test_a_translated_search_asks_for_what_is_made_of_its_candidates():
    asked = []

    def holds(text):
        asked.append(text)
        return int(text[1:]) >= 11

    found, _ = settle_one(translated(seek_smallest(16, 64), lambda n: f"n{n}"), holds)
    assert found == 11 and asked[0] == "n1"


def test_without_leaves_its_argument_and_takes_indices_of_any_rank():
    kept = {"a": np.ones((2, 3)), "b": np.ones(2)}
    left = without(kept, [("a", (1, 2)), ("b", 0)])
    assert size(kept) == 8 and size(left) == 6
    assert left["a"][1, 2] == 0 and left["b"][0] == 0

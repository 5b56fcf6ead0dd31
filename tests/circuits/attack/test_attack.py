"""Context dilution on the planted bracket network: predicted from short lists, measured on long ones."""

import dataclasses

import jax
import numpy as np
import pytest

from circuits_jax.circuits.attack.attack import (
    ELSEWHERE,
    EVERY_HEAD,
    PLACEBO,
    UNDONE,
    Attack,
    plant_case,
    summarize,
)
from circuits_jax.circuits.attack.dilution import Dilution
from circuits_jax.circuits.circuit import Node
from circuits_jax.circuits.planted import plant
from circuits_jax.storage.errors import CircuitError

pytestmark = pytest.mark.computes

LISTS, ELEMENTS = 24, [0, 4, 16]


@pytest.fixture(scope="module")
def case():
    return plant_case(LISTS, room=32)


@pytest.fixture(scope="module")
def attack(case):
    return Attack(case, ELEMENTS)


@pytest.fixture(scope="module")
def rows(attack):
    return attack.rows()


def chosen(rows, arm, prompts="A"):
    return [row for row in rows if row["arm"] == arm and row["prompts"] == prompts]


@pytest.mark.slow
def test_long_lists_fail_and_so_do_tokens_elsewhere_that_a_uniform_head_averages_too(rows):
    for arm in ("words in the list", ELSEWHERE):
        accuracy = [row["accuracy"] for row in chosen(rows, arm)]
        assert accuracy[0] == 1 and accuracy[-1] == 0
        assert [row["tokens added"] for row in chosen(rows, arm)] == ELEMENTS


def test_the_shallow_lists_and_the_undone_long_ones_do_not(rows):
    assert all(row["accuracy"] == 1 for row in chosen(rows, "words in the list", "B"))
    assert all(row["accuracy"] == 1 for row in chosen(rows, UNDONE))
    assert chosen(rows, PLACEBO)[-1]["accuracy"] == 0


def test_the_planted_head_undone_cures_them_and_no_other_head_does(rows):
    arms = {row["arm"] for row in rows}
    (own,) = (arm for arm in arms if arm.startswith("all of head"))
    (other,) = (arm for arm in arms if arm.startswith("instead, the best other head"))
    planted = next(node.index for node in plant("brackets", 0, 1, 1).nodes if node.site == "0.attn.v") // 16
    assert own == f"all of head 0.{planted} undone" and f"0.{planted}," not in other
    assert [row["accuracy"] for row in chosen(rows, own)] == [1, 1, 1]
    assert chosen(rows, other)[-1]["accuracy"] == 0


def test_of_an_average_that_two_heads_share_a_circuit_of_one_predicts_half(case):
    """The planted value, half of it through another head that the circuit does not hold."""
    node = next(node for node in plant("brackets", 0, 1, 1).nodes if node.site == "0.attn.v")
    config, params = case.model.config, jax.tree.map(np.array, case.model.params)
    attention, width, size = params["h_0"]["attn"], config.d_attn, config.d_head
    head = node.index // size
    twin = (head + 1) % config.heads
    mine, its = (np.arange(size) + size * each for each in (head, twin))
    for array in attention["c_attn"].values():
        for part in range(3):
            array[..., its + part * width] = array[..., mine + part * width]
    attention["sink"][twin] = attention["sink"][head]
    rows = attention["c_proj"]["kernel"]
    rows[mine] /= 2
    rows[its] = rows[mine]
    shared = dataclasses.replace(case, model=dataclasses.replace(case.model, params=params))
    attack = Attack(shared, [0, 4])
    (longer,) = (each[-1] for each in attack.lists.values())
    measured = attack._dilution.run(longer).difference.mean(0) - attack.base.difference.mean(0)
    alone, every = (
        attack.predicted(longer, everywhere).difference.mean(0) - attack.base.difference.mean(0)
        for everywhere in (False, True)
    )
    assert measured[0] < -1
    np.testing.assert_allclose(every, measured, rtol=0.1, atol=0.1)
    np.testing.assert_allclose(alone, measured / 2, rtol=0.1, atol=0.1)


def test_where_one_head_averages_diluting_every_head_says_no_more(rows):
    for row in chosen(rows, "words in the list"):
        assert row[EVERY_HEAD] == pytest.approx(row["accuracy"], abs=0.1)
    assert "every head diluted: " in summarize(rows)["tokens that bring it below 0.5"]


def test_the_score_falls_as_one_over_the_number_of_tokens(rows, case):
    """The planted head is uniform (its sink is exp(-4) of a token): N tokens' values are shared by N + n."""
    tokens = case.short.last + 1.0
    brackets = {site: mask for site, mask in case.masks.items() if site.endswith("attn.v") and mask.any()}
    assert list(brackets) == ["0.attn.v"]
    for row in chosen(rows, "words in the list"):
        law = (1 / (tokens + row["tokens added"])).mean() / (1 / tokens).mean()
        assert row["score"] == pytest.approx(law, rel=0.01)
        assert row["score predicted"] == pytest.approx(row["score"], rel=1e-3)


def test_logits_of_long_lists_are_predicted_from_short_ones(rows):
    for row in chosen(rows, "words in the list") + chosen(rows, "words in the list", "B"):
        assert row["difference predicted"] == pytest.approx(row["difference"], abs=0.3)
        assert row["accuracy predicted"] == pytest.approx(row["accuracy"], abs=0.1)
        assert row["difference low"] <= row["difference"] <= row["difference high"]


def test_the_summary_says_so(rows, attack):
    told = summarize(rows)
    assert told["attack"] == "words in the list, against deep lists (prompts A)"
    assert told["verdict"].startswith("context dilution")
    head = next(node.index for node in plant("brackets", 0, 1, 1).nodes if node.site == "0.attn.v") // 16
    assert attack.heads().startswith(f"0.{head} averages 1")


@pytest.mark.parametrize(
    ("arm", "place", "interval", "words"),
    [
        ("words in the list", 0, (0.4, 0.6), "does not know the short lists"),
        ("words in the list", -1, (0.9, 1.0), "answered as well"),
        (UNDONE, -1, (0.0, 0.2), "does not cure"),
        (PLACEBO, -1, (1.0, 1.0), "other channels cures it as well"),
    ],
)
def test_the_verdict_needs_every_control(rows, arm, place, interval, words):
    falsified = [dict(row) for row in rows]
    row = chosen(falsified, arm)[place]
    row["accuracy low"], row["accuracy high"] = interval
    verdict = summarize(falsified)["verdict"]
    assert verdict.startswith("not shown") and words in verdict


def test_a_prediction_that_fails_for_a_control_counts_against_the_attack(rows):
    falsified = [dict(row) for row in rows]
    row = chosen(falsified, ELSEWHERE)[-1]
    row |= {"accuracy": 0.75, "accuracy low": 0.02, "accuracy high": 0.9}
    verdict = summarize(falsified)["verdict"]
    assert verdict.startswith("not shown")
    assert f"{ELSEWHERE} (accuracy 0.750 [0.020, 0.900], predicted 0.000)" in verdict
    row["accuracy low"] = 0.0  # now the interval holds the prediction
    assert summarize(falsified)["verdict"].startswith("context dilution")


def test_a_circuit_without_value_channels_averages_nothing(case):
    masks = {site: np.zeros_like(mask) for site, mask in case.masks.items()}
    with pytest.raises(CircuitError, match="no value channel"):
        Dilution(case.model, masks, case.means, 16)


@pytest.mark.slow
def test_channels_that_pass_nothing_are_refused(case):
    """A value channel of the network that no bracket reaches: what it passes is alike in A and B."""
    kernel = case.model.params["h_0"]["attn"]["c_attn"]["kernel"]
    size = case.model.config.d_attn
    blank = np.flatnonzero(~kernel[:, 2 * size :].any(axis=0))
    masks = {site: np.zeros_like(mask) for site, mask in case.masks.items()}
    node = Node("0.attn.v", int(blank[0]))
    masks[node.site][node.index] = 1
    other = dataclasses.replace(case, masks=masks)
    with pytest.raises(CircuitError, match="tells A from B"):
        Attack(other, [0, 1])

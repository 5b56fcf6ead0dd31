"""Intervals over few clusters: against the textbook forms in scipy, and what they cover."""

import numpy as np
import pytest
from scipy import stats

from circuits_jax.circuits.audit.intervals import ClusteredIntervals, Figure
from circuits_jax.circuits.audit.verdict import judge
from circuits_jax.storage.errors import TaskError

TEMPLATES, PAIRS = 6, 40
EQUAL = np.repeat(np.arange(TEMPLATES), PAIRS)


def test_with_equally_many_pairs_it_is_student_s_interval_of_the_templates_means():
    values = np.random.default_rng(0).gamma(2, size=len(EQUAL)) + EQUAL / 4
    means = values.reshape(TEMPLATES, PAIRS).mean(axis=1)
    low, high = stats.t.interval(0.9, TEMPLATES - 1, means.mean(), stats.sem(means))
    found = ClusteredIntervals(EQUAL, 0.9).loss(values)
    np.testing.assert_allclose([found.value, found.low, found.high], [values.mean(), low, high], rtol=1e-12)


def test_the_order_and_the_names_of_templates_decide_nothing():
    rng = np.random.default_rng(1)
    templates, values = rng.integers(0, 5, 60), rng.random(60)
    order = rng.permutation(60)
    found = ClusteredIntervals(templates, 0.95)
    again = ClusteredIntervals(7 - 3 * templates[order], 0.95)
    for one, other in (
        (found.loss(values), again.loss(values[order])),
        (found.rate(values), again.rate(values[order])),
    ):
        np.testing.assert_allclose([one.low, one.value, one.high], [other.low, other.value, other.high])


def test_pairs_that_are_repeated_make_no_interval_narrower():
    values = np.random.default_rng(2).random(len(EQUAL)) < 0.7
    once = ClusteredIntervals(EQUAL, 0.95).rate(values)
    many = ClusteredIntervals(np.tile(EQUAL, 9), 0.95).rate(np.tile(values, 9))
    np.testing.assert_allclose([many.low, many.high], [once.low, once.high])


@pytest.mark.parametrize("value", [0, 1])
def test_a_rate_without_exception_gets_clopper_and_pearson_s_interval_of_the_templates(value):
    found = ClusteredIntervals(EQUAL, 0.95).rate(np.full(len(EQUAL), value))
    exact = stats.binomtest(value * TEMPLATES, TEMPLATES).proportion_ci(0.95, method="exact")
    assert found.value == value
    np.testing.assert_allclose([found.low, found.high], [exact.low, exact.high], atol=1e-12)


def test_six_templates_without_exception_are_close_to_a_bound_that_one_exception_is_clear_of():
    """As docs/statistics.md says of 256 pairs and the bound of 0.8."""
    intervals, values = ClusteredIntervals(np.arange(256) % 6, 0.95), np.ones(256)
    found = judge("flips", intervals.rate(values), 0.8, at_most=False)
    assert found.passed and not found.clear and round(found.figure.low, 2) == 0.54
    values[0] = 0
    found = judge("flips", intervals.rate(values), 0.8, at_most=False)
    assert found.passed and found.clear
    assert np.round([found.figure.value, found.figure.low, found.figure.high], 3).tolist() == [
        0.996,
        0.951,
        1,
    ]


def test_templates_that_are_all_alike_leave_the_chance_of_the_pairs():
    found = ClusteredIntervals(EQUAL, 0.95).rate(np.tile([0, 1], len(EQUAL) // 2))
    assert found.value == 0.5 and 0.3 < found.low < 0.45 and 0.55 < found.high < 0.7


def test_a_constant_loss_has_no_width_and_a_loss_is_never_below_zero():
    intervals = ClusteredIntervals(np.array([0, 0, 1, 1]), 0.95)
    assert intervals.loss(np.full(4, 0.25)) == Figure(0.25, 0.25, 0.25)
    assert intervals.loss(np.array([0, 0, 1, 1])).low == 0


def test_a_mean_of_any_sign_has_an_interval_of_any_sign():
    found = ClusteredIntervals(np.array([0, 0, 1, 1]), 0.95).mean(np.array([-2.0, -1, 0, 1]))
    assert found.value == -0.5 and found.low < -1 and found.high > 0


def test_one_template_is_refused():
    with pytest.raises(TaskError, match="one template"):
        ClusteredIntervals(np.zeros(9, int), 0.95)


@pytest.mark.slow
@pytest.mark.parametrize("deviation", [0.05, 0.15])
@pytest.mark.parametrize(("mean", "required"), [(0.5, True), (0.8, True), (0.95, False)])
def test_what_a_95_percent_interval_of_a_rate_covers(mean, deviation, required):
    """Templates' rates are drawn from a Beta distribution, pairs from those; prints what is covered."""
    rng = np.random.default_rng(0)
    size = mean * (1 - mean) / deviation**2 - 1
    intervals, covered, studies = ClusteredIntervals(EQUAL, 0.95), 0, 4000
    for _ in range(studies):
        rates = rng.beta(mean * size, (1 - mean) * size, TEMPLATES)
        found = intervals.rate(rng.random(len(EQUAL)) < rates[EQUAL])
        covered += found.low <= mean <= found.high
    print(f"mean {mean}, deviation {deviation}: {covered / studies:.3f} covered")
    if required:
        assert 0.92 <= covered / studies <= 0.98

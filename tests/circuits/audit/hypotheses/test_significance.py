"""P-values: by hand, and by simulation that a true null is rejected as often as it may be."""

import itertools

import jax
import numpy as np
import pytest
from scipy import stats

from circuits_jax.circuits.audit.hypotheses.circuit_tests import LEAST_LOSS, _better
from circuits_jax.circuits.audit.hypotheses.significance import (
    LEVEL,
    draws_needed,
    holm,
    independence_p,
    mean_p,
    rank_p,
)
from circuits_jax.circuits.audit.intervals import pair_losses
from circuits_jax.tasks.calibration import calibrate

TEMPLATES = np.repeat(np.arange(6), 40)


@pytest.mark.parametrize("tests", [1, 2, 3, 7, 13, 39, 400])
def test_draws_are_just_enough(tests):
    draws = draws_needed(tests)
    assert 1 / (draws + 1) < LEVEL / tests <= 1 / draws + 1e-12
    assert holm([1 / (draws + 1), *[1.0] * (tests - 1)])[0] < LEVEL


def test_ranks_are_counted_with_ties_against_us():
    draws = np.array([3.0, 1.0, 2.0, 2.0])
    assert rank_p(9, draws) == 1 / 5
    assert rank_p(3, draws) == 2 / 5
    assert rank_p(2, draws) == 4 / 5
    assert rank_p(-1, draws) == 1


def test_small_differences_and_no_numbers_speak_against_us():
    assert rank_p(1.005, np.array([1.0, 0.5]), 0.01) == 2 / 3
    assert rank_p(1.02, np.array([1.0, 0.5]), 0.01) == 1 / 3
    assert rank_p(1, np.array([np.nan, 0])) == 2 / 3
    assert rank_p(np.nan, np.array([0.0, 1.0])) == 1


@pytest.mark.slow
def test_a_circuit_that_answers_nothing_is_not_told_from_others():
    """All are at chance; what calibration leaves of their losses differs, by what their constants are."""
    constants = np.array([0, *np.random.default_rng(0).normal(size=60)], np.float32)
    differences = np.tile(constants[:, None, None], (1, 16, 2))
    scales, shifts, _ = jax.jit(jax.vmap(calibrate))(differences)
    losses = pair_losses(differences, scales, shifts).mean(axis=1)
    assert rank_p(-losses[0], -losses[1:]) < LEVEL / 2  # what a rank alone would say
    assert rank_p(-losses[0], -losses[1:], LEAST_LOSS) == rank_p(losses[0], losses[1:], LEAST_LOSS) == 1


def test_holm_is_the_closed_test_of_bonferroni():
    """Holm rejects a null if Bonferroni rejects every set of nulls that holds it."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        p = rng.uniform(0, 0.1, 4)
        closed = [
            max(
                min(1.0, len(group) * min(p[list(group)]))
                for size in range(1, 5)
                for group in itertools.combinations(range(4), size)
                if i in group
            )
            for i in range(4)
        ]
        assert holm(p) == pytest.approx(closed)
    assert holm([]) == [] and holm([0.9, 0.8]) == [1.0, 1.0]


def test_the_mean_s_test_is_student_s_over_equal_clusters():
    rng = np.random.default_rng(1)
    values = rng.random(240) + 0.1 * TEMPLATES
    means = [values[k == TEMPLATES].mean() for k in range(6)]
    assert mean_p(values, TEMPLATES, 0.5) == pytest.approx(stats.ttest_1samp(means, 0.5).pvalue)


def test_losses_equal_up_to_rounding_make_neither_better():
    losses = np.geomspace(1e-9, 3, 240)
    assert mean_p(_better(losses * (1 - 1e-5), losses), TEMPLATES, 0.5) == 1
    np.testing.assert_array_equal(_better(losses * 0.9, losses), 1)
    np.testing.assert_array_equal(_better(losses, losses * 0.9), 0)


def test_clusters_that_do_not_differ_are_coins():
    assert mean_p(np.ones(240), TEMPLATES, 0.5) == 1 / 32
    assert mean_p(np.full(240, 0.5), TEMPLATES, 0.5) == 1


def rejected(p_values):
    """The share rejected, and the most that chance lets a test of LEVEL reject in so many."""
    p_values = np.asarray(p_values)
    return (p_values < LEVEL).mean(), stats.binom.ppf(0.999, len(p_values), LEVEL) / len(p_values)


def test_the_mean_s_test_rejects_a_true_null_seldom_enough():
    """6 templates of 40 pairs; the rates of templates are Beta, of mean one half."""
    rng = np.random.default_rng(2)
    for spread in (0.05, 0.15):
        size = 0.25 / spread**2 - 1
        values = rng.random((1500, 240)) < np.repeat(rng.beta(size / 2, size / 2, (1500, 6)), 40, axis=1)
        share, most = rejected([mean_p(each, TEMPLATES, 0.5) for each in values])
        assert 0.01 < share <= most, spread


def test_a_family_of_true_nulls_is_rejected_seldom_enough():
    """Holm over rank tests that share their random draws, as the edges' do."""
    rng = np.random.default_rng(3)
    tests, draws = 5, draws_needed(5)
    found = []
    for _ in range(1500):
        effects = rng.exponential(size=tests + draws) ** 3  # as skew as effects of edges are
        found.append(min(holm([rank_p(effect, effects[tests:]) for effect in effects[:tests]])))
    share, most = rejected(found)
    assert 0.005 < share <= most


@pytest.mark.slow
def test_independence_is_rejected_seldom_where_it_holds_and_often_where_not():
    rng, draws = np.random.default_rng(4), np.random.RandomState(0)
    templates = np.repeat(np.arange(6), 10)
    shift = rng.normal(0, 3, (400, 6)).repeat(10, axis=1)  # what templates share is no dependence
    x, y = rng.normal(size=(2, 400, 60))
    null = [
        independence_p(a + s, b - s, templates, 39, draws)[1] for a, b, s in zip(x, y, shift, strict=True)
    ]
    share, most = rejected(null)
    assert share <= most
    line = [independence_p(a, a + 0.5 * b, templates, 39, draws)[1] for a, b in zip(x[:50], y, strict=False)]
    bow = [
        independence_p(a, a**2 + 0.3 * b, templates, 39, draws)[1] for a, b in zip(x[:50], y, strict=False)
    ]
    assert rejected(line)[0] > 0.9 and rejected(bow)[0] > 0.9


def test_of_a_constant_nothing_can_be_told():
    rng = np.random.RandomState(0)
    hsic, p = independence_p(np.arange(240.0), np.ones(240), TEMPLATES, 39, rng)
    assert hsic == pytest.approx(0, abs=1e-9) and p == 1
    _, p = independence_p(np.arange(240.0), -np.arange(240.0), TEMPLATES, 39, rng)
    assert p == 1 / 40

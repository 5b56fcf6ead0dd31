"""The ratio at matched loss: recovered where it is known, none where nothing can be said."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import integrate, stats

from circuits_jax.runs.frontier.ratio import (
    MeasuredModel,
    learnt_by_all,
    log_ratios,
    loss_curve,
    matched_ratio,
    overlap,
    ratios_where_learnt,
    series_trend,
    task_mean,
)

TASKS = {"quotes": 30.0, "brackets": 200.0, "with_as": 70.0}


def series(losses, factor=1.0, slope=-2.5, seeds=(0,), name="s", tasks=TASKS):
    """Models whose circuits have factor * c * exp(slope * loss) edges, c of each task, exactly."""
    return [
        MeasuredModel(
            f"{name} {loss}, seed {seed}",
            f"size {place}",
            seed,
            loss,
            {task: factor * c * math.exp(slope * (loss - 4)) for task, c in tasks.items()},
        )
        for place, loss in enumerate(losses)
        for seed in seeds
    ]


@pytest.mark.parametrize("sizes", [([4.3, 4.0, 3.7], [4.1, 3.9, 3.5]), ([4.3, 3.5], [4.0]), ([4.0], [4.0])])
def test_a_known_ratio_is_recovered_exactly_whatever_the_sizes(sizes):
    found = matched_ratio(series(sizes[0], 16.0), series(sizes[1]), 0.95)
    assert found.value == pytest.approx(16, rel=1e-12) and found.why is None
    assert (found.low, found.high) == (pytest.approx(16, rel=1e-9), pytest.approx(16, rel=1e-9))
    assert found.by_task == pytest.approx(dict.fromkeys(TASKS, 16.0))
    assert {round(ratio, 9) for _, ratio in found.by_loss} == {16.0}
    assert found.tasks == tuple(TASKS) and found.seeds == (0,)


def test_equal_models_have_a_ratio_of_one_and_the_smaller_can_be_either():
    models = series([4.2, 4.0, 3.8])
    assert matched_ratio(models, models, 0.95).value == pytest.approx(1)
    assert matched_ratio(series([4.2, 3.8]), series([4.1, 3.9], 16), 0.95).value == pytest.approx(1 / 16)


def test_only_the_losses_that_both_reach_are_compared():
    found = matched_ratio(series([4.4, 4.0, 3.6], 16.0), series([4.2, 3.2]), 0.95)
    assert found.losses == (3.6, 4.2)
    assert [loss for loss, _ in found.by_loss] == [3.6, 4.0, 4.2]


@pytest.mark.parametrize(
    ("larger", "smaller", "why"),
    [
        (
            series([4.3, 4.1]),
            series([4.0, 3.8]),
            "the losses do not overlap: 4.100 to 4.300 and 3.800 to 4.000",
        ),
        (series([4.3]), series([4.2999]), "the losses do not overlap"),
        (series([4.3]), [], "no finished model"),
        (
            series([4.3], tasks={"a": 3.0}),
            series([4.3], tasks={"b": 3.0}),
            "no task is learnt by every model",
        ),
    ],
)
def test_where_nothing_can_be_compared_there_is_no_ratio_and_a_reason(larger, smaller, why):
    found = matched_ratio(larger, smaller, 0.95)
    assert (found.value, found.low, found.high, found.losses) == (None, None, None, None)
    assert why in found.why and not found.by_task and not found.by_loss


def test_losses_that_touch_are_compared_there():
    found = matched_ratio(series([4.3, 4.0], 16.0), series([4.0, 3.8]), 0.95)
    assert found.losses == (4.0, 4.0) and found.value == pytest.approx(16)


def curved(losses, logs, name):
    """One task, whose logarithm of edges at each loss is given."""
    return [
        MeasuredModel(f"{name} {i}", f"{i}", 0, loss, {"t": math.exp(log)})
        for i, (loss, log) in enumerate(zip(losses, logs, strict=True))
    ]


def test_the_mean_over_losses_is_the_integral_of_what_is_interpolated():
    """Against scipy's quadrature of numpy's interpolation."""
    one, other = ([3.5, 3.8, 4.0, 4.4], [7.0, 6.9, 5.0, 4.0]), ([3.6, 3.9, 4.3], [4.0, 3.0, 2.9])

    def difference(loss):
        return np.interp(loss, *one) - np.interp(loss, *other)

    whole, _ = integrate.quad(difference, 3.6, 4.3, points=[3.8, 3.9, 4.0])
    found = matched_ratio(curved(*one, "l"), curved(*other, "s"), 0.95)
    assert math.log(found.value) == pytest.approx(whole / 0.7, rel=1e-9)
    assert found.low is None and found.high is None  # one task says nothing of others
    for loss, ratio in found.by_loss:
        assert math.log(ratio) == pytest.approx(difference(loss))


def test_sizes_whose_losses_are_out_of_order_are_taken_by_loss_and_equal_ones_together():
    curve = loss_curve(curved([4.0, 3.6, 3.8, 3.8], [1.0, 4.0, 2.0, 3.0], "s"), ["t"])
    np.testing.assert_allclose(curve.losses, [3.6, 3.8, 4.0])
    np.testing.assert_allclose(curve.logs, [[4.0, 2.5, 1.0]])


def test_seeds_are_averaged_first_losses_and_logarithms():
    models = [
        MeasuredModel("a", "small", 0, 4.0, {"t": 10.0}),
        MeasuredModel("b", "small", 1, 4.2, {"t": 1000.0}),
        MeasuredModel("c", "large", 0, 3.5, {"t": 7.0}),
    ]
    curve = loss_curve(models, ["t"])
    np.testing.assert_allclose(curve.losses, [3.5, 4.1])
    np.testing.assert_allclose(np.exp(curve.logs), [[7.0, 100.0]])


def test_where_one_series_has_more_seeds_those_of_both_are_compared():
    """The second seed of the larger, ten times as large again, says nothing of the difference."""
    larger = series([4.2, 3.8], 16.0, seeds=(0,)) + series([4.2, 3.8], 160.0, seeds=(1,))
    found = matched_ratio(larger, series([4.1, 3.9], seeds=(0,)), 0.95)
    assert found.seeds == (0,) and found.value == pytest.approx(16) == pytest.approx(found.by_seed[0])
    apart = matched_ratio(series([4.2, 3.8], 16.0, seeds=(0,)), series([4.1, 3.9], seeds=(1,)), 0.95)
    assert apart.seeds == () and apart.value == pytest.approx(16)


def test_a_task_that_some_have_learnt_has_a_ratio_of_those_models():
    """`a` is learnt by all, `b` by the better ones of each series, at a ratio of its own, `c` by one."""
    larger = series([4.2, 4.0, 3.8], 16.0, tasks={"a": 3.0, "b": 6.0, "c": 1.0})
    smaller = series([4.1, 4.0, 3.9], tasks={"a": 3.0, "b": 2.0})
    larger = [dataclasses.replace(m, counts={**m.counts, "b": m.counts["b"] if m.loss < 4.1 else None})
              for m in larger]  # fmt: skip
    smaller = [dataclasses.replace(m, counts={**m.counts, "b": m.counts["b"] if m.loss < 4.05 else None})
               for m in smaller]  # fmt: skip
    found = ratios_where_learnt(larger, smaller)
    assert set(found) == {"a", "b"}
    assert found["a"] == (pytest.approx(16), (3.9, 4.1)) and found["b"] == (pytest.approx(48), (3.9, 4.0))
    assert matched_ratio(larger, smaller, 0.95).tasks == ("a",)


def test_the_spread_over_seeds_is_of_each_seeds_own_models():
    larger = (
        series([4.2, 3.8], 16.0, seeds=(0,))
        + series([4.2, 3.8], 4.0, seeds=(1,))
        + series([4], 9, seeds=(2,))
    )
    smaller = series([4.1, 3.9], seeds=(0, 1, 3))
    found = matched_ratio(larger, smaller, 0.95)
    assert found.seeds == (0, 1)
    assert found.by_seed == {0: pytest.approx(16), 1: pytest.approx(4)}
    apart = series([4.2], 16.0, seeds=(0,)) + series([3.8], 16.0, seeds=(1,))
    assert matched_ratio(apart, smaller, 0.95).by_seed == {0: None, 1: None}


def test_the_interval_is_students_t_over_tasks():
    """Against scipy's own interval of a mean."""
    logs = [1.0, 2.0, 2.5, 3.5, 0.5]
    found = task_mean(logs, 0.9)
    low, high = stats.t.interval(0.9, len(logs) - 1, np.mean(logs), stats.sem(logs))
    assert (found.value, found.low, found.high) == pytest.approx(tuple(np.exp([np.mean(logs), low, high])))
    factors = {"a": 4.0, "b": 16.0, "c": 64.0}
    larger = series([4.2, 3.8], tasks={task: 10 * f for task, f in factors.items()})
    ratio = matched_ratio(larger, series([4.2, 3.8], tasks=dict.fromkeys(factors, 10.0)), 0.95)
    assert ratio.value == pytest.approx(16)
    low, high = stats.t.interval(0.95, 2, math.log(16), stats.sem(np.log(list(factors.values()))))
    assert (ratio.low, ratio.high) == pytest.approx((math.exp(low), math.exp(high)))


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        found = task_mean(math.log(16) + rng.normal(scale=0.8, size=8), 0.9)
        hits += found.low <= 16 <= found.high
    assert 0.86 <= hits / 400 <= 0.94  # 0.9, give or take 2.7 standard errors


def test_a_task_that_one_model_lacks_is_left_out_for_all_and_a_diverged_model_counts_for_nothing():
    larger, smaller = series([4.2, 3.8], 16.0, name="l"), series([4.1, 3.9], name="s")
    dull = smaller[0].counts | {"quotes": None}
    smaller[0] = MeasuredModel("dull", "size 0", 0, 4.1, dull)
    smaller.append(MeasuredModel("diverged", "size 9", 0, None, {}))
    assert learnt_by_all([*larger, *smaller]) == (("brackets", "with_as"), {"quotes": ["dull"]})
    found = matched_ratio(larger, smaller, 0.95)
    assert found.tasks == ("brackets", "with_as") and found.value == pytest.approx(16)


def test_a_circuit_without_an_edge_counts_as_one_edge():
    assert loss_curve([MeasuredModel("a", "1", 0, 4.0, {"t": 0})], ["t"]).logs.tolist() == [[0.0]]


def test_overlap_is_that_of_the_ends():
    one, other = (loss_curve(series(losses), list(TASKS)) for losses in ([4.0, 3.0], [5.0, 3.5]))
    assert overlap(one, other) == overlap(other, one) == (3.5, 4.0)
    np.testing.assert_allclose(log_ratios(one, other, (3.5, 4.0)), 0, atol=1e-12)


def test_a_trend_compares_the_last_size_with_the_first():
    change, edges = series_trend(series([4.2, 4.1, 3.9], slope=3.0, seeds=(0, 1)), 0.95)
    assert change == pytest.approx(-0.3)
    assert (edges.value, edges.low, edges.high) == pytest.approx((math.exp(-0.9),) * 3)
    assert series_trend(series([4.2]), 0.95) is None

import jax
import numpy as np
import pytest

from circuits_jax.config import OptimizerConfig, SparsityConfig
from circuits_jax.sparsity.schedules import L0Schedule, l0_schedule, learning_rate_schedule
from circuits_jax.storage.errors import ConfigError


def sparsity(anneal="linear", target=1 / 32, start=0.1, end=0.5):
    return SparsityConfig(target=target, anneal_start=start, anneal_end=end, anneal=anneal)


@pytest.mark.parametrize(("anneal", "half_way"), [("linear", (1 + 1 / 32) / 2), ("exponential", 32**-0.5)])
def test_the_fraction_falls_from_one_to_the_target(anneal, half_way):
    fraction = l0_schedule(sparsity(anneal), 200)
    assert [float(fraction(step)) for step in (0, 20, 100, 150, 199, 200)] == [1, 1, *[1 / 32] * 4]
    np.testing.assert_allclose(fraction(60), half_way, rtol=1e-6)
    falling = np.array([fraction(step) for step in range(20, 101)])
    assert (np.diff(falling) < 0).all()


def test_an_anneal_of_no_length_is_a_jump():
    fraction = l0_schedule(sparsity(start=0.5, end=0.5), 10)
    assert [float(fraction(step)) for step in (4, 5, 6)] == [1, 1 / 32, 1 / 32]
    assert float(L0Schedule(0.25)(0)) == 0.25


def test_the_final_budget_is_that_of_the_python_fraction():
    for target, numel, expected in ((0.01, 100, 1), (0.07, 100, 7), (0.3, 10, 3), (0.1, 2**30, 107374182)):
        schedule = l0_schedule(sparsity(target=target), 100)
        budget = jax.jit(lambda step, s=schedule, n=numel: s.budget(step, n))
        assert budget(50) == budget(99) == expected
        assert budget(0) == budget(10) == numel
        assert expected <= budget(49) < budget(20) < numel


def test_an_unknown_anneal_names_the_choices():
    with pytest.raises(ConfigError, match="exp.*linear, exponential"):
        L0Schedule(0.5, anneal="exp")


def test_learning_rate_warms_up_decays_and_has_a_fin():
    optimizer = OptimizerConfig(learning_rate=0.5, warmup=0.1, sharkfin=True)
    plain = OptimizerConfig(learning_rate=0.5, warmup=0.1, sharkfin=False)
    finned = jax.jit(learning_rate_schedule(optimizer, sparsity(), 200))
    smooth = jax.jit(learning_rate_schedule(plain, sparsity(), 200))
    for step, expected in ((0, 0), (10, 0.25), (20, 0.5), (110, 0.25), (200, 0), (250, 0)):
        np.testing.assert_allclose(smooth(step), expected, atol=1e-7)
    for step, kept in ((10, 1), (20, 1), (60, 33 / 64), (100, 1 / 32), (150, 1 / 32)):
        np.testing.assert_allclose(finned(step), smooth(step) * kept**-0.5, rtol=1e-6)


def test_no_warm_up_starts_at_the_base_rate():
    schedule = learning_rate_schedule(OptimizerConfig(learning_rate=0.5, warmup=0.0), sparsity(), 200)
    assert float(schedule(0)) == 0.5

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.tasks.calibration import calibrate
from circuits_jax.tasks.metrics import loss_of_difference

SIGNS = np.array([1.0, -1.0])
calibrate_jit = jax.jit(calibrate)


def loss_of(difference, scale, shift):
    return np.mean(np.logaddexp(0, -SIGNS * (scale * difference + shift)))


def newton(difference):
    """Best scale and shift for targets of 1 - 1 / (N + 2), by damped Newton steps in float64: the problem is
    convex in both."""
    x, right = np.asarray(difference, np.float64).ravel(), np.tile(SIGNS, len(difference)) > 0
    target = np.where(right, 1 - 1 / (len(difference) + 2), 1 / (len(difference) + 2))
    design = np.stack([x / x.std(), np.ones_like(x)], axis=1)
    fit = np.zeros(2)
    for _ in range(200):
        p = 1 / (1 + np.exp(-design @ fit))
        gradient = (design * (p - target)[:, None]).mean(0)
        hessian = (design * (p * (1 - p))[:, None]).T @ design / len(x)
        step = np.linalg.solve(hessian + 1e-12 * np.eye(2), gradient)
        fit = fit - step / max(1, np.abs(step).max())
    return fit[0] / x.std(), fit[1]


def noisy(rng, margin=1.0, offset=0.0, noise=1.5, n=200):
    return (margin * SIGNS + offset + noise * rng.standard_normal((n, 2))).astype(np.float32)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(("margin", "offset", "noise"), [(1.0, 0.0, 1.5), (1.0, 8.0, 1.5), (2.0, -3.0, 1.2)])
def test_it_finds_the_best_fit(margin, offset, noise, unit):
    difference = unit * noisy(np.random.default_rng(3), margin, offset, noise)
    scale, shift = newton(difference)
    least = loss_of(difference, scale, shift)
    ours = calibrate_jit(difference)
    assert float(ours[2]) == pytest.approx(least, abs=2e-4)
    assert float(ours[0]) == pytest.approx(scale, rel=0.05)
    assert loss_of(difference, float(ours[0]), float(ours[1])) == pytest.approx(float(ours[2]), abs=1e-4)


def test_what_is_perfectly_separated_becomes_nearly_lossless():
    difference = noisy(np.random.default_rng(0), margin=1e-2, offset=5.0, noise=1e-3)
    assert float(calibrate_jit(difference)[2]) < 0.01


@pytest.mark.parametrize("margin", [1e-3, 1.0, 30.0])
def test_mistakes_on_other_pairs_cost_what_the_size_of_the_fit_justifies(margin):
    fitted = np.tile(np.float32(margin * SIGNS), (100, 1))  # no scale would be the largest
    scale, shift, loss = map(float, calibrate_jit(fitted))
    assert loss == pytest.approx(-math.log(1 - 1 / 102), rel=0.05)
    others = fitted.copy()
    others[0] *= -1
    wrong = float(loss_of_difference(scale * jnp.asarray(others) + shift)) - loss * 99 / 100
    assert wrong == pytest.approx(math.log(102) / 100, rel=0.05)


def test_a_shift_cannot_tell_right_from_wrong():
    rng = np.random.default_rng(1)
    same = np.repeat(rng.standard_normal((100, 1)), 2, axis=1).astype(np.float32)
    backwards = -noisy(rng, margin=2.0)
    constant = np.full((100, 2), 3.0, np.float32)
    for difference in (same, backwards, constant):
        scale, _, loss = calibrate_jit(difference)
        assert float(scale) > 0
        assert float(loss) > math.log(2) - 1e-5

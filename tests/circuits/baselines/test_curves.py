"""The curve of faithfulness against size, and its areas by hand."""

import numpy as np
import pytest

from circuits_jax.circuits.baselines import FRACTIONS, SizeCurve, areas, curves, faithfulness
from circuits_jax.circuits.baselines.curves import Span, span
from tests.circuits.baselines.planted_edges import batch, network, planted


def test_areas_are_those_of_trapezoids():
    rng = np.random.default_rng(0)
    for _ in range(20):
        f = rng.normal(0.7, 0.6, len(FRACTIONS))
        x, y = (0.0, *FRACTIONS), (0.0, *f)
        under = sum((b - a) * (p + q) / 2 for a, b, p, q in zip(x, x[1:], y, y[1:], strict=False))
        away = sum(
            (b - a) * (abs(1 - p) + abs(1 - q)) / 2 for a, b, p, q in zip(x, x[1:], y, y[1:], strict=False)
        )
        assert areas(FRACTIONS, f) == pytest.approx((under, away))


def test_areas_of_curves_that_are_known():
    perfect = SizeCurve(FRACTIONS, (1.0,) * len(FRACTIONS))
    assert (perfect.cpr, perfect.cmd) == pytest.approx((1 - 0.0005, 0.0005))
    straight = SizeCurve(FRACTIONS, FRACTIONS)
    assert (straight.cpr, straight.cmd) == pytest.approx((0.5, 0.5))
    double = SizeCurve((1.0,), (2.0,))
    assert (double.cpr, double.cmd) == pytest.approx((1.0, 1.0))


@pytest.mark.slow
def test_the_planted_edges_do_it_all_and_the_others_nothing(monkeypatch):
    net, pairs = network("mean"), batch("test")
    ends = span(net, pairs)
    assert ends.why_not is None and ends.model > 1 > abs(ends.nothing)
    truth = net.edges.kept(planted().edges)
    first = np.argsort(~truth, kind="stable")
    count = truth.sum() / net.edges.count
    monkeypatch.setattr(curves, "FRACTIONS", (count / 2, count, 0.5, 1.0))
    good = faithfulness(net, first, pairs, ends)
    assert good.f[1:] == pytest.approx((1, 1, 1), abs=0.1) and good.f[0] < 0.5
    assert good.f[-1] == pytest.approx(1, abs=1e-6)
    bad = faithfulness(net, first[::-1], pairs, ends)
    assert bad.f[:3] == pytest.approx((0, 0, 0), abs=0.1)
    assert good.cpr > 0.9 > 0.5 > bad.cpr and good.cmd < 0.1 < 0.5 < bad.cmd


def test_a_curve_between_two_like_values_is_left_out_and_told():
    assert Span(1.0, 0.5).why_not is None and Span(-1.0, -0.4).why_not is None
    why = Span(0.7, 0.45).why_not
    assert "0.700" in why and "0.450" in why and "\n" not in why

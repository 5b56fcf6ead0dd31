"""Goodput tells training from what stands around it."""

from circuits_jax.training.goodput import Goodput


def test_shares_are_those_of_a_clock_s_seconds():
    now = [100.0]
    goodput = Goodput(lambda: now[0])
    assert goodput.figures() == {}  # no time has gone

    def passes(seconds, block):
        with block:
            now[0] += seconds

    passes(10, goodput.spent())  # compiling
    now[0] += 24
    passes(6, goodput.waiting())
    assert goodput.figures() == {"goodput": 30 / 40, "data_wait": 6 / 30}
    passes(20, goodput.spent())
    assert goodput.figures() == {"goodput": 30 / 60, "data_wait": 6 / 30}

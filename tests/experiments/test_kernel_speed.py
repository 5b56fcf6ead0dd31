"""The benchmark of AbsTopK's kernel, interpreted: both ways give the same, and shapes are read."""

import pytest

from circuits_jax.storage.errors import ConfigError
from experiments.benchmarks.kernel_speed import compare, read_shape


@pytest.mark.parametrize("gradient", [False, True])
def test_both_ways_agree(gradient):
    row = compare((8, 64), "float32", gradient, 1, 100.0)
    assert row["equal"] == "True" and row["kernel, ms"] > 0 and row["ratio"] > 0
    assert (row["shape"], row["pass"]) == ("8x64", "gradient" if gradient else "forward")


@pytest.mark.parametrize("text", ["", "8", "8x", "x8", "8x4", "0x64", "axb"])
def test_shapes_are_refused_in_one_line(text):
    with pytest.raises(ConfigError, match="ROWSxWIDTH"):
        read_shape(text)

"""Products of bfloat16 with sums in float32, against numpy's products of rounded factors."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from circuits_jax.model import rounded as module
from circuits_jax.model.linear import Linear
from circuits_jax.model.rounded import BFLOAT16
from circuits_jax.model.target import compiling_for


def rounded(x):
    return np.asarray(x, np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return (rng.normal(size=shape).astype(np.float32) for shape in ((2, 3, 8), (8, 5), (5,), (2, 3, 5)))


@pytest.mark.parametrize("compiled", [False, True])
def test_outputs_and_gradients_are_of_rounded_factors(arrays, compiled, monkeypatch):
    if compiled and not module.COMPILED:
        pytest.skip("this version of jax multiplies no bfloat16 on some CPUs")
    monkeypatch.setattr(module, "COMPILED", compiled)
    x, kernel, bias, towards = arrays
    layer = Linear(5, dtype=jnp.float32)

    def along(x, kernel):
        return jnp.sum(layer.apply({"params": {"kernel": kernel, "bias": bias}}, x) * towards)

    with jax.default_matmul_precision(BFLOAT16):
        y = layer.apply({"params": {"kernel": kernel, "bias": bias}}, x)
        by_x, by_kernel = jax.jit(jax.grad(along, (0, 1)))(x, kernel)
    assert y.dtype == by_x.dtype == by_kernel.dtype == jnp.float32
    np.testing.assert_allclose(y, rounded(x) @ rounded(kernel) + bias, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(by_x, rounded(towards) @ rounded(kernel).T, rtol=1e-5, atol=1e-6)
    expected = np.einsum("btd,bte->de", rounded(x), rounded(towards))
    np.testing.assert_allclose(by_kernel, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(y - (x @ kernel + bias)).max() > 1e-4  # rounding is there


def test_other_devices_and_other_precisions_are_left_to_the_compiler(arrays):
    x, kernel, *_ = arrays
    layer = Linear(5, use_bias=False, dtype=jnp.float32)

    def text():  # a function of its own each time: traces are kept by function
        return jax.jit(lambda x: layer.apply({"params": {"kernel": kernel}}, x)).lower(x).as_text()

    assert "bf16" not in text()
    with jax.default_matmul_precision(BFLOAT16):
        assert ("xbf16>" if module.COMPILED else "reduce_precision") in text()
        with compiling_for("tpu", 1):
            assert "xbf16>" not in text() and "lhs_precision_type = bf16" in text()

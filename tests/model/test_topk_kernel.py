"""AbsTopK's kernel, interpreted: the same entries, bit for bit, as a stable sort and as bisection keep."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType

from circuits_jax.config import MeshConfig
from circuits_jax.model import kernels, topk_kernel
from circuits_jax.model.abs_topk import abs_top_k, top_k_mask
from circuits_jax.model.placement import PARTS, by_parts, by_rows, placing
from circuits_jax.model.target import compiling_for
from circuits_jax.model.topk_kernel import kernel_top_k
from circuits_jax.storage.errors import ConfigError
from tests.model.test_abs_topk import oracle, rows

run = jax.jit(kernel_top_k, static_argnums=1)
mask_of = jax.jit(top_k_mask, static_argnums=(1, 2))


def bits(x):
    return np.asarray(x).view(np.uint16 if x.dtype == ml_dtypes.bfloat16 else np.uint32)


KINDS = ("normal", "ties", "constant", "extremes", "zeros", "neighbours")


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("k", [1, 8, 32])
def test_it_keeps_what_a_stable_sort_keeps(k, dtype):
    x = np.concatenate([rows(kind) for kind in KINDS]).astype(dtype)
    kept = run(x, k)
    assert kept.dtype == dtype
    np.testing.assert_array_equal(bits(kept), bits(oracle(x, k)))


@pytest.mark.parametrize("count, width", [(1, 130), (31, 2), (70, 64)])  # 70: the last block has rows of none
def test_any_shape_and_ties_to_the_last_column(monkeypatch, count, width):
    monkeypatch.setattr(topk_kernel, "BLOCK", 1)  # so that blocks have TILE rows
    x = np.random.default_rng(0).integers(-2, 3, size=(count, width)).astype(np.float32)
    x[0, :], x[-1, : width // 2] = 1, 0  # beside rows with a tie one whose last column is the threshold
    for k in {width // 2, width - 1}:
        np.testing.assert_array_equal(topk_kernel._on_tpu(x, k, False, True)[0], oracle(x, k))


def test_infinities_and_what_is_no_number_are_kept_as_elsewhere():
    x = np.float32(np.random.default_rng(0).normal(size=(5, 64)))
    x[0, :40], x[1, :3], x[2], x[3, 5], x[4] = np.inf, -np.inf, np.nan, np.nan, -0.0
    np.testing.assert_array_equal(bits(run(x, 16)), bits(jnp.where(mask_of(x, 16, False), x, 0)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_gradient_is_that_of_the_mask(dtype):
    x = jnp.asarray(np.concatenate([rows(kind) for kind in ("normal", "ties", "zeros")]), dtype)
    weights = np.random.default_rng(1).normal(size=x.shape).astype(dtype)
    k = 20  # of "zeros" more than there are others: the gradient passes through zeros
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(kernel_top_k(x, k) * weights)))(x)
    np.testing.assert_array_equal(gradient, jnp.where(mask_of(x, k, False), weights, 0))


def test_rows_do_not_touch_each_other_under_vmap():
    x = np.concatenate([rows("normal"), rows("ties")])
    mapped = jax.jit(jax.vmap(jax.vmap(lambda row: kernel_top_k(row, 7))))
    np.testing.assert_array_equal(mapped(x), oracle(x, 7))
    across = jax.vmap(jax.grad(lambda x: jnp.sum(kernel_top_k(x, 7) ** 2)), in_axes=1, out_axes=1)
    np.testing.assert_array_equal(jax.jit(across)(x), 2 * oracle(x, 7))


def calls(function, *arguments):
    return str(jax.make_jaxpr(function)(*arguments)).count("pallas_call")


def test_the_platform_and_the_switch_choose():
    x = jnp.ones((4, 8))
    keep = lambda x: abs_top_k(x, 2)  # noqa: E731
    found = {}
    for platform in ("cpu", "gpu", "tpu"):
        for choice in ("auto", "pallas", "none"):
            with compiling_for(platform, 1), kernels.using(choice):
                found[platform, choice] = calls(lambda x: keep(x), x)
    assert {chosen for chosen, count in found.items() if count} == {
        ("tpu", "auto"), ("cpu", "pallas"), ("gpu", "pallas"), ("tpu", "pallas")
    }  # fmt: skip
    with compiling_for("tpu", 4):  # the compiler splits no kernel over what devices there may be
        assert not calls(lambda x: keep(x), x)
    with compiling_for("tpu", 1):
        wide = jnp.ones((1, topk_kernel.WIDEST + 1))
        assert not calls(lambda x: keep(x), wide)
    with pytest.raises(ValueError, match="unknown kernels 'cuda'; choose one of auto, pallas, none"):
        kernels.using("cuda").__enter__()
    with pytest.raises(ConfigError, match=r"mesh.kernels.*'cuda'.*auto, pallas, none"):
        MeshConfig(kernels="cuda")


def test_on_a_mesh_each_device_keeps_of_its_own_rows():
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "model"), axis_types=(AxisType.Auto,) * 3)
    x = np.random.default_rng(0).integers(-9, 10, size=(8, 3, 32)).astype(np.float32)

    def whole(x):
        return abs_top_k(by_rows(x), 8)

    def split(x):  # over the width: devices exchange counts, and there is no kernel
        return abs_top_k(by_parts(x, -1), 8, axes=PARTS)

    def one(x):  # no batch
        return abs_top_k(x[0, 0], 8)

    def odd(x):  # no rows for all devices
        return abs_top_k(x[:3], 8)

    every = oracle(x, 8)
    kept = {whole: every, split: every, one: every[0, 0], odd: every[:3]}
    for function, kernel in ((whole, True), (split, False), (one, False), (odd, False)):
        placed = placing(function, mesh, "pallas")
        assert bool(calls(placed, x)) == kernel
        np.testing.assert_array_equal(jax.jit(placed)(x), kept[function])
    gradient = jax.grad(lambda x: jnp.sum(placing(whole, mesh, "pallas")(x) ** 2))
    np.testing.assert_array_equal(jax.jit(gradient)(x), 2 * oracle(x, 8))


def test_a_gpu_has_a_kernel_of_a_row_whose_width_is_a_power_of_two():
    def lowered(x):
        with compiling_for("gpu", 1), kernels.using("pallas"):
            return export.export(
                jax.jit(jax.grad(lambda x: jnp.sum(abs_top_k(x, 8) ** 2))),
                platforms=["cuda"],
                disabled_checks=[export.DisabledSafetyCheck.custom_call("__gpu$xla.gpu.triton")],
            )(x).mlir_module()

    for dtype in (jnp.float32, jnp.bfloat16):
        text = lowered(jax.ShapeDtypeStruct((3, 40, 300), dtype))
        assert "__gpu$xla.gpu.triton" in text and "grid_x = 120" in text and "120x512x" in text

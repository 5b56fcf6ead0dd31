import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from circuits_jax.sparsity.projection import project_mask
from tests.sparsity import oracles

SHARDINGS = [("a", None), (None, ("a", "b")), ("a", "b")]
# Whatever moves entries of a tensor between devices, or could only work on all of it at once.
MOVES_WEIGHTS = re.compile(r"all-to-all|collective-permute|collective-broadcast|\bsort\(|topk", re.I)
GATHERED = re.compile(r"= \w+\[([\d,]*)\]\S* all-gather")


def moves_weights(text, size):
    """Whether compiled code moves a tensor of `size` entries; a few of each unit may be gathered."""
    gathered = (math.prod(map(int, shape.split(","))) for shape in GATHERED.findall(text))
    return bool(MOVES_WEIGHTS.search(text)) or any(entries > size // 16 for entries in gathered)


def compile_sharded(spec, floor_axis, w, k, j):
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    sharding = NamedSharding(mesh, PartitionSpec(*spec))
    everywhere = NamedSharding(mesh, PartitionSpec())

    def masked(w, k):
        return jnp.where(project_mask(w, k, floor_axis, j), w, 0)

    w, k = jax.device_put(w, sharding), jax.device_put(jnp.int32(k), everywhere)
    compiled = (
        jax.jit(masked, in_shardings=(sharding, everywhere), out_shardings=sharding).lower(w, k).compile()
    )
    return compiled, w, k


@pytest.mark.parametrize("spec", SHARDINGS, ids=str)
@pytest.mark.parametrize("floor_axis", [None, 0, 1])
def test_same_result_on_eight_devices_without_moving_weights(spec, floor_axis):
    w = np.random.default_rng(1).integers(-9, 10, size=(256, 128)).astype(np.float32)
    w[:, :80] /= 16  # columns that the plain budget would empty: the floor of 2 binds
    w[:160] /= 16
    compiled, sharded, k = compile_sharded(spec, floor_axis, w, 600, 2)
    text = compiled.as_text()
    assert "all-reduce" in text
    assert not moves_weights(text, w.size)
    keep = oracles.largest(w, 600) if floor_axis is None else oracles.projected(w, 600, floor_axis, 2)
    np.testing.assert_array_equal(compiled(sharded, k), np.where(keep, w, 0))
    single = jnp.where(project_mask(jnp.asarray(w), 600, floor_axis, 2), w, 0)
    np.testing.assert_array_equal(compiled(sharded, k), single)


def test_the_check_on_compiled_code_can_fail():
    mesh = jax.make_mesh((8,), ("a",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("a"))
    for moving in (lambda w: jnp.sort(w.ravel()), lambda w: 2 * w):
        whole = jax.jit(moving, in_shardings=sharding, out_shardings=NamedSharding(mesh, PartitionSpec()))
        assert moves_weights(whole.lower(jnp.ones((64, 32))).compile().as_text(), 64 * 32)


def test_a_sharded_bias():
    mesh = jax.make_mesh((8,), ("a",), axis_types=(AxisType.Auto,))
    bias = np.random.default_rng(2).integers(-3, 4, size=64).astype(np.float32)
    sharded = jax.device_put(bias, NamedSharding(mesh, PartitionSpec("a")))
    compiled = jax.jit(project_mask).lower(sharded, jnp.int32(9)).compile()
    assert not moves_weights(compiled.as_text(), bias.size)
    np.testing.assert_array_equal(compiled(sharded, jnp.int32(9)), oracles.largest(bias, 9))

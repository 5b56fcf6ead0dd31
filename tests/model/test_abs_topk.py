"""AbsTopK against a stable sort in numpy."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from circuits_jax.config import ModelConfig
from circuits_jax.model.abs_topk import abs_top_k, top_k_mask, top_k_mask_at
from circuits_jax.model.sites import node_sites
from circuits_jax.model.transformer import Transformer, init_params

run = jax.jit(abs_top_k, static_argnums=1)
mask_of = jax.jit(top_k_mask, static_argnums=(1, 2))


def oracle(x, k):
    """The k largest magnitudes of each row; a stable sort puts the lowest index first among equals."""
    order = np.argsort(-np.abs(x.astype(np.float64)), axis=-1, kind="stable")[..., :k]
    kept = np.zeros_like(x)
    np.put_along_axis(kept, order, np.take_along_axis(x, order, -1), -1)
    return kept


def rows(kind, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3, 5, 33)).astype(np.float32)
    if kind == "ties":
        x = rng.integers(-3, 4, size=x.shape).astype(np.float32)
    elif kind == "constant":
        x = np.where(rng.random(x.shape) < 0.5, np.float32(-0.7), np.float32(0.7))
    elif kind == "extremes":
        x = (x * 10.0 ** rng.integers(-37, 38, size=x.shape)).astype(np.float32)
    elif kind == "zeros":
        x = np.where(rng.random(x.shape) < 0.1, x, np.float32(0))
    elif kind == "neighbours":  # one unit in the last place apart
        x = (np.float32(1).view(np.int32) + rng.integers(0, 20, size=x.shape, dtype=np.int32)).view(
            np.float32
        )
    return x


@pytest.mark.parametrize("k", [0, 1, 8, 32, 33, 40])
@pytest.mark.parametrize("kind", ["normal", "ties", "constant", "extremes", "zeros", "neighbours"])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_it_keeps_what_a_stable_sort_keeps(kind, k, dtype):
    x = rows(kind).astype(dtype)
    kept = np.asarray(run(x, k))
    assert kept.dtype == dtype
    np.testing.assert_array_equal(kept, oracle(x, min(k, 33)))
    if 0 < k < 33:  # the search of a CPU's cache, whichever the devices here
        mask = np.asarray(mask_of(x, k, True))
        np.testing.assert_array_equal(np.where(mask, x, 0), kept)
        np.testing.assert_array_equal(mask, mask_of(x, k, False))


@pytest.mark.parametrize("shape", [(1, 40), (300, 100), (7, 24, 512), (2, 20_000)])
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_rows_taken_a_few_at_a_time_keep_what_bisection_keeps(shape, scale):
    rng = np.random.default_rng(0)
    x = np.float32(rng.normal(size=shape) * np.exp(scale * rng.normal(size=shape)))  # with heavier tails, too
    x[..., ::7] = 0
    k = shape[-1] // 4
    mask = mask_of(x, k, True)
    np.testing.assert_array_equal(mask, mask_of(x, k, False))
    np.testing.assert_array_equal(np.sum(mask, axis=-1), k)


def test_infinities_and_what_is_no_number_end_the_search():
    x = np.float32(np.random.default_rng(0).normal(size=(4, 64)))
    x[0, :40], x[1, :3], x[2], x[3, 5] = np.inf, -np.inf, np.nan, np.nan
    mask = np.asarray(mask_of(x, 16, True))
    np.testing.assert_array_equal(mask, mask_of(x, 16, False))
    assert mask.sum(axis=-1).tolist() == [16] * 4 and mask[3, 5]


def test_exactly_k_are_kept_of_equal_magnitudes_the_first_ones():
    x = jnp.array([[2.0, -1.0, 1.0, -1.0, 1.0, 0.5]])
    np.testing.assert_array_equal(run(x, 3), [[2.0, -1.0, 1.0, 0, 0, 0]])
    np.testing.assert_array_equal(run(jnp.full((64,), -3.0), 5), [-3.0] * 5 + [0.0] * 59)


def test_none_keeps_everything():
    x = rows("normal")
    np.testing.assert_array_equal(abs_top_k(jnp.asarray(x), None), x)


@pytest.mark.parametrize("kind", ["normal", "ties"])
@pytest.mark.parametrize("k", [0, 5, 33])
def test_the_gradient_passes_through_kept_entries_only(kind, k):
    x = rows(kind)
    weights = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(abs_top_k(x, k) * weights)))(x)
    order = np.argsort(-np.abs(x), axis=-1, kind="stable")[..., :k]
    kept = np.zeros(x.shape, bool)
    np.put_along_axis(kept, order, True, -1)
    np.testing.assert_array_equal(gradient, np.where(kept, weights, 0))


def test_rows_do_not_touch_each_other_under_vmap():
    x = np.concatenate([rows("normal"), rows("ties")])
    mapped = jax.jit(jax.vmap(jax.vmap(lambda row: abs_top_k(row, 7))))(x)
    np.testing.assert_array_equal(mapped, oracle(x, 7))
    across = jax.jit(jax.vmap(lambda x: abs_top_k(x, 7), in_axes=1, out_axes=1))(x)
    np.testing.assert_array_equal(across, oracle(x, 7))


@pytest.mark.parametrize("spec", [PartitionSpec("data"), PartitionSpec(None, "data")], ids=["rows", "width"])
def test_eight_devices_agree_with_one(spec):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    x = np.random.default_rng(0).integers(-9, 10, size=(16, 32)).astype(np.float32)
    placed = jax.device_put(x, NamedSharding(mesh, spec))
    np.testing.assert_array_equal(run(placed, 8), oracle(x, 8))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("k", [1, 5, 23])
def test_the_mask_at_a_few_columns_is_that_of_all(dtype, k):
    x = jax.random.normal(jax.random.key(k), (3, 7, 24)).astype(dtype)
    x = jnp.concatenate([x, jnp.round(x)])  # ties, many of them at zero
    columns = jnp.array([23, 0, 7, 8, 24])
    whole, found = top_k_mask(x, k), top_k_mask_at(x, k, columns)
    nonzero = (x != 0)[..., columns[:4]]
    np.testing.assert_array_equal(found[..., :4] & nonzero, whole[..., columns[:4]] & nonzero)
    assert not found[..., 4].any()  # there is no such column


@pytest.mark.slow
def test_exactly_k_are_kept_of_values_that_xla_may_compute_twice():
    """Without fusion emitters (conftest) XLA computes the norm anew for the mask, rounded otherwise."""
    config = ModelConfig(
        n_layer=1, d_model=24, d_head=4, d_mlp=48, n_ctx=8, vocab_size=20, norm="layer", activation="relu",
        tied_unembed=True, bigram=False, logits_bias=True,
    )  # fmt: skip
    keys = iter(jax.random.split(jax.random.key(1), 200))
    params = jax.tree.map(
        lambda x: 3 * x + 0.3 * jax.random.normal(next(keys), x.shape), init_params(config, jax.random.key(0))
    )
    tokens = np.random.default_rng(3).integers(0, 20, (16, 8)).astype(np.int32)
    sites = tuple(node_sites(config))
    apply = jax.jit(lambda params, tokens: Transformer(config).apply(params, tokens, record=sites))
    kept = np.count_nonzero(apply(params, tokens)[1]["0.attn.act_in"], axis=-1)
    assert set(kept.ravel().tolist()) == {config.kept_activations("attn_in", 24)}

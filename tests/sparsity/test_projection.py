from fractions import Fraction

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from circuits_jax.config import ModelConfig
from circuits_jax.model import parameters
from circuits_jax.model.parameters import parameter_name, rule_for
from circuits_jax.model.transformer import init_params
from circuits_jax.sparsity.projection import keep_largest, project_mask
from circuits_jax.sparsity.schedules import L0Schedule, budget
from tests.sparsity import oracles

RNG = np.random.default_rng(0)
TINY = {"n_layer": 1, "d_model": 16, "d_head": 4, "d_mlp": 32, "n_ctx": 8, "vocab_size": 24}


def named(tree):
    return {parameter_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


# --- budget


def test_budget_of_a_python_fraction():
    assert budget(100, 0.01) == 1
    assert budget(10, 0.3) == 3
    assert budget(1023, 1 / 32) == 31
    assert budget(10, 0.01) == 1  # never nothing
    assert budget(7, 1.0) == 7


def test_traced_budget_is_the_exact_floor():
    numels = [1, 2, 3, 4095, 4096, 2**24 + 1, 2**31 - 1, *RNG.integers(1, 2**31, size=60).tolist()]
    shares = RNG.random(size=60).astype(np.float32)
    fractions = np.concatenate([shares, shares**8, np.float32([1, 0.5, 1 / 32, 1e-9, 1e-38])])
    fractions = np.concatenate([fractions, [np.nextafter(np.float32(1), np.float32(0))]]).astype(np.float32)
    for numel in numels:
        traced = jax.vmap(lambda f, n=numel: budget(n, f))(fractions)
        exact = [max(1, int(numel * Fraction(float(f)))) for f in fractions]
        assert traced.tolist() == exact


# --- rules


@pytest.mark.parametrize(
    "options",
    [
        {"norm": "layer", "position": "concat", "d_pos": 4, "logits_bias": True},
        {"position": "add", "tied_unembed": True, "attention_sink": False, "bigram": False},
        {"bias": False, "norm": "layer", "norm_bias": False},
    ],
)
def test_every_parameter_of_the_model_has_a_rule(options):
    config = ModelConfig(**TINY, **options)
    shapes = named(jax.eval_shape(lambda: init_params(config, jax.random.key(0))))
    units = {"c_attn": 3 * config.d_attn, "c_fc": config.neurons}
    units |= {"attn/c_proj": config.d_attn, "mlp/c_proj": config.neurons}
    for name, leaf in shapes.items():
        rule = rule_for(name)
        dense = name.endswith("scale") or name.split("/")[-1] in ("sink", "bigram", "logits_bias")
        assert (rule.kind == parameters.DENSE) == dense, name
        assert (rule.floor_axis is not None) == (name.startswith("h_") and name.endswith("kernel")), name
        if rule.floor_axis is not None:
            expected = next(count for part, count in units.items() if part in name)
            assert leaf.size // leaf.shape[rule.floor_axis] == expected, name


def test_an_unknown_parameter_is_named():
    with pytest.raises(ValueError, match="h_0/attn/c_atn/kernel"):
        keep_largest(L0Schedule(0.5)).init({"h_0": {"attn": {"c_atn": {"kernel": jnp.ones(3)}}}})


# --- masks


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("j", [1, 3, 100])
@pytest.mark.parametrize("values", ["normal", "ties, and few units hold all"])
def test_floor_against_a_greedy_oracle(axis, j, values):
    w = RNG.normal(size=(12, 10)).astype(np.float32)
    if values != "normal":
        w = RNG.integers(-2, 3, size=w.shape).astype(np.float32)
        w[3:] /= 16
        w[:, 3:] /= 16
    mask_of = jax.jit(chex.assert_max_traces(lambda w, k: project_mask(w, k, axis, j), n=1))
    units, fan = w.size // w.shape[axis], min(j, w.shape[axis])
    for k in (1, 5, 12, 40, 119, 120):
        mask = np.asarray(mask_of(w, jnp.int32(k)))
        np.testing.assert_array_equal(mask, oracles.projected(w, k, axis, j))
        assert mask.sum() == max(k, units * fan)
        assert mask.sum(axis).min() >= fan
    assert mask_of._cache_size() == 1


def test_a_floor_that_does_not_bind_changes_nothing():
    w = RNG.normal(size=(32, 32)).astype(np.float32)
    plain = project_mask(w, 500)
    assert np.asarray(plain).sum(0).min() >= 2
    np.testing.assert_array_equal(project_mask(w, 500, 0, 2), plain)


# --- the transformation


def params_and_updates(dtype=jnp.float32, update_dtype=jnp.float32):
    params, updates = oracles.random_tree(RNG), oracles.random_tree(RNG, 0.1)
    return jax.tree.map(lambda p: jnp.asarray(p, dtype), params), jax.tree.map(
        lambda u: jnp.asarray(u, update_dtype), updates
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("update_dtype", [jnp.float32, jnp.bfloat16])
def test_kept_entries_move_and_the_others_are_exactly_zero(dtype, update_dtype):
    params, updates = params_and_updates(dtype, update_dtype)
    transformation = keep_largest(L0Schedule(0.25), floor=2)

    @jax.jit
    def step(params, updates):
        new_updates, _ = transformation.update(updates, transformation.init(params), params)
        return optax.apply_updates(params, new_updates)

    moved, new = named(optax.apply_updates(params, updates)), named(step(params, updates))
    for name, leaf in new.items():
        rule, dense = rule_for(name), np.asarray(moved[name])
        keep = np.ones(leaf.shape, bool)
        if rule.kind != parameters.DENSE:
            k = max(1, leaf.size // 4)
            keep = oracles.largest(dense, k)
            if rule.floor_axis is not None:
                keep = oracles.projected(dense, k, rule.floor_axis, 2)
        assert leaf.dtype == dtype
        np.testing.assert_array_equal(np.asarray(leaf), np.where(keep, dense, 0), err_msg=name)


@pytest.mark.parametrize(("biases", "embeddings"), [(False, True), (True, False)])
def test_biases_and_embeddings_can_stay_dense(biases, embeddings):
    params, updates = params_and_updates()
    transformation = keep_largest(L0Schedule(0.2), 0, biases, embeddings)
    new_updates, _ = transformation.update(updates, transformation.init(params), params)
    for name, leaf in named(new_updates).items():
        kept_whole = rule_for(name).kind == parameters.DENSE
        kept_whole |= not biases and name.endswith("bias")
        kept_whole |= not embeddings and name.split("/")[0] in ("wte", "wpe", "lm_head")
        assert bool((leaf == named(updates)[name]).all()) == kept_whole, name


def test_one_compilation_for_a_whole_anneal():
    params, updates = params_and_updates()
    transformation = keep_largest(L0Schedule(0.05, start=2, end=6), floor=1)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(params, state):
        new_updates, state = transformation.update(updates, state, params)
        return optax.apply_updates(params, new_updates), state

    state, nonzeros = transformation.init(params), []
    for _ in range(8):
        params, state = step(params, state)
        nonzeros.append(int(jnp.count_nonzero(params["wte"]["embedding"])))
    # The n-th update uses schedule(n): 1, 1, then 0.05 + 0.95 (1 - p), of 12 x 8 entries.
    fractions = [1, 1, 0.7625, 0.525, 0.2875, 0.05, 0.05, 0.05]
    assert nonzeros == [int(96 * fraction + 1e-3) for fraction in fractions]
    assert step._cache_size() == 1
    assert int(state.step) == 8


def test_a_zeroed_weight_can_come_back():
    params = {"wte": {"embedding": jnp.array([[4.0, 3.0, 2.0, 1.0]])}}
    transformation = keep_largest(L0Schedule(0.5))
    state = transformation.init(params)
    for update, expected in (([0, 0, 0, 0], [4, 3, 0, 0]), ([-3, 0, 0, -5], [0, 3, 0, -5])):
        update = {"wte": {"embedding": jnp.array([update], jnp.float32)}}
        update, state = transformation.update(update, state, params)
        params = optax.apply_updates(params, update)
        assert params["wte"]["embedding"].tolist() == [expected]


def test_parameters_are_asked_for():
    params, updates = params_and_updates()
    transformation = keep_largest(L0Schedule(0.5))
    with pytest.raises(ValueError, match="params"):
        transformation.update(updates, transformation.init(params))

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from circuits_jax.config import Config, OptimizerConfig, SparsityConfig, TrainConfig
from circuits_jax.sparsity.optimizer import gradient_rms, make_optimizer, normalize_rms, still_entries
from circuits_jax.storage.errors import ConfigError
from tests.sparsity.oracles import random_tree

CONFIG = Config(
    sparsity=SparsityConfig(target=0.1, anneal_start=0.0, anneal_end=0.5, floor=0),
    optimizer=OptimizerConfig(learning_rate=0.5, warmup=0.0, weight_decay=0.2, eps=0.1),
    train=TrainConfig(steps=10),
)
GRADIENTS = {"a": np.array([3.0, -4.0], np.float32), "b": np.full((2, 3), 0.5, np.float32)}
RMS = ((9 + 16 + 6 * 0.25) / 8) ** 0.5


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(("mode", "target"), [("rescale", 1.0), ("rescale", 0.25), ("clip", 1.0)])
def test_rms_is_taken_over_all_tensors(scale, mode, target):
    gradients = jax.tree.map(lambda g: jnp.asarray(g * scale), GRADIENTS)
    np.testing.assert_allclose(gradient_rms(gradients), RMS * scale, rtol=1e-6)
    result, _ = normalize_rms(target, mode).update(gradients, optax.EmptyState())
    factor = target / (RMS * scale)
    if mode == "clip":
        factor = min(1.0, factor)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(result[name], gradient * factor, rtol=1e-6)


def test_a_zero_gradient_stays_zero():
    zeros = jax.tree.map(jnp.zeros_like, GRADIENTS)
    result, _ = normalize_rms().update(zeros, optax.EmptyState())
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(result))


def test_entries_that_are_not_trained_count_as_zeros():
    with_zeros = {**GRADIENTS, "c": np.zeros(24, np.float32)}
    expected, _ = normalize_rms().update(with_zeros, optax.EmptyState())
    found, _ = normalize_rms(still=24).update(GRADIENTS, optax.EmptyState())
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-6)
        np.testing.assert_allclose(gradient, 2 * GRADIENTS[name] / RMS, rtol=1e-6)  # 32 entries, not 8


def test_what_is_counted_is_a_table_of_counts():
    table = CONFIG.model.vocab_size**2
    for bigram, entries in (("learned", 0), ("counts", table), ("none", 0)):
        model = dataclasses.replace(CONFIG.model, bigram=bigram)
        assert still_entries(OptimizerConfig(rms_entries="all"), model) == entries
        assert still_entries(OptimizerConfig(), model) == 0


def test_an_unknown_mode_names_the_choices():
    with pytest.raises(ConfigError, match="norm.*rescale, clip"):
        normalize_rms(1.0, "norm")


def gradients_at(index):
    return random_tree(np.random.default_rng(1 + index), 1e-3)


def run(config, steps):
    """Parameters and optimizer state after `steps` updates by fixed pseudo-random gradients."""
    params = jax.tree.map(jnp.asarray, random_tree(np.random.default_rng(0)))
    optimizer = make_optimizer(config)
    state = optimizer.init(params)
    chex.clear_trace_counter()  # of an earlier run in the same test

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(params, state, gradients):
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    for index in range(steps):
        params, state = step(params, state, gradients_at(index))
    assert step._cache_size() == 1
    return params, state


def test_a_dense_step_is_adamw_by_its_formula():
    dense = dataclasses.replace(CONFIG, sparsity=SparsityConfig(target=1.0))
    start, gradients = random_tree(np.random.default_rng(0)), gradients_at(0)
    rms = np.sqrt(np.mean(np.concatenate([np.ravel(g) for g in jax.tree.leaves(gradients)]) ** 2))
    params, _ = run(dense, 1)
    for (path, new), old, g in zip(
        jax.tree_util.tree_leaves_with_path(params),
        jax.tree.leaves(start),
        jax.tree.leaves(gradients),
        strict=True,
    ):
        decay = 0.2 if path[-1].key in ("kernel", "embedding") else 0.0
        g = g / rms
        # The first step's bias corrections leave m = g and v = g^2.
        expected = old - 0.5 * (g / (np.abs(g) + 0.1) + decay * old)
        np.testing.assert_allclose(new, expected, rtol=1e-4, atol=1e-5, err_msg=str(path))


def test_a_sparse_run_compiles_once_ends_at_its_budget_and_leaves_the_moments_alone():
    params, state = run(CONFIG, 10)
    kernel = params["h_0"]["mlp"]["c_proj"]["kernel"]
    assert int(jnp.count_nonzero(kernel)) == int(0.1 * kernel.size)
    assert int(jnp.count_nonzero(params["bigram"])) == params["bigram"].size
    _, dense_state = run(dataclasses.replace(CONFIG, sparsity=SparsityConfig(target=1.0)), 10)
    for sparse, dense in zip(jax.tree.leaves(state[1]), jax.tree.leaves(dense_state[1]), strict=True):
        np.testing.assert_allclose(sparse, dense, rtol=1e-5)
        assert np.count_nonzero(sparse) == sparse.size

"""Sparse products: the same numbers as dense ones, through the one forward."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.config import MeshConfig, ModelConfig
from circuits_jax.model import sites, taps
from circuits_jax.model.linear import SparseKernel, make_forward, sparse_params
from circuits_jax.model.transformer import Transformer, init_params
from circuits_jax.training.mesh.meshes import make_mesh

CONFIG = ModelConfig(
    n_layer=1,
    d_model=16,
    n_ctx=8,
    vocab_size=24,
    d_head=4,
    n_head=3,
    d_mlp=40,
    activation_locations=("attn_q", "mlp_neuron"),
)
TOKENS = np.random.default_rng(0).integers(24, size=(8, 8), dtype=np.int32)


def sparse_matrix(inputs, outputs, keep, seed=0):
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(inputs, outputs)).astype(np.float32)
    return np.where(rng.random(kernel.shape) < keep, kernel, np.float32(0))


def random_params(config, keep, seed=0):
    """Random entries everywhere; of the kernels' a share `keep`."""
    shapes = jax.eval_shape(lambda: init_params(config, jax.random.PRNGKey(0)))
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        values = rng.normal(size=leaf.shape).astype(np.float32)
        kept = rng.random(leaf.shape) < (keep if path[-1].key == "kernel" else 1)
        return np.where(kept, values, np.float32(0))

    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize("shape", [(7, 5), (1, 9), (30, 1), (64, 48)])
def test_products_are_those_of_numpy(shape, keep):
    kernel = sparse_matrix(*shape, keep)
    x = np.random.default_rng(1).normal(size=(2, 3, shape[0])).astype(np.float32)
    product = jax.jit(lambda x, k: x @ k)(jnp.asarray(x), SparseKernel.of(kernel))
    expected = x.astype(np.float64) @ kernel.astype(np.float64)
    np.testing.assert_allclose(product, expected, rtol=1e-5, atol=1e-5)
    assert product.dtype == jnp.float32


def test_dense_gives_the_kernel_back():
    kernel = sparse_matrix(13, 11, 0.2)
    np.testing.assert_array_equal(SparseKernel.of(kernel).dense(), kernel)


def test_only_sparse_kernels_are_replaced():
    params = random_params(CONFIG, 0.05)
    params["h_0"]["mlp"]["c_fc"]["kernel"] = sparse_matrix(16, 40, 0.9)
    tree = sparse_params(params, 0.1)
    assert not isinstance(tree["h_0"]["mlp"]["c_fc"]["kernel"], SparseKernel)
    kernel = tree["h_0"]["attn"]["c_attn"]["kernel"]
    assert isinstance(kernel, SparseKernel) and kernel.shape == (16, 36)
    np.testing.assert_array_equal(kernel.dense(), params["h_0"]["attn"]["c_attn"]["kernel"])
    assert isinstance(tree["lm_head"]["kernel"], SparseKernel)
    np.testing.assert_array_equal(tree["wte"]["embedding"], params["wte"]["embedding"])


def run(config, params, **options):
    return jax.jit(lambda p: Transformer(config).apply(p, TOKENS, **options))(params)


CONFIGS = {
    "default": CONFIG,
    "tied, no biases, positions": dataclasses.replace(
        CONFIG, bias=False, tied_unembed=True, position="concat", d_pos=4, activation_fraction=None
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_forward_pass_is_the_same(name):
    """Logits, records and what a tap does to them."""
    config = CONFIGS[name]
    params = random_params(config, 0.1)
    record = tuple(sites.sites(config))
    tap = taps.add({"0.mlp.post_act": jnp.ones(40)})
    logits, records = run(config, params, record=record, tap=tap)
    fast_logits, fast_records = run(config, sparse_params(params, 0.3), record=record, tap=tap)
    np.testing.assert_allclose(fast_logits, logits, rtol=1e-5, atol=1e-4)
    for site in record:
        np.testing.assert_allclose(fast_records[site], records[site], rtol=1e-5, atol=1e-4, err_msg=site)


def test_bfloat16_activations():
    config = dataclasses.replace(CONFIG, dtype="bfloat16", activation_fraction=None)
    params = random_params(config, 0.1)
    logits, fast = run(config, params)[0], run(config, sparse_params(params, 0.3))[0]
    assert np.corrcoef(np.ravel(logits), np.ravel(fast))[0, 1] > 0.999


@pytest.mark.parametrize("devices", [0, 8])
def test_by_row(devices):
    config = dataclasses.replace(CONFIG, activation_locations=("mlp_in",))
    params = random_params(config, 0.1)
    forward = make_forward(Transformer(config), make_mesh(MeshConfig()) if devices else None)
    expected, _ = run(config, params)
    np.testing.assert_allclose(forward(sparse_params(params, 0.3), TOKENS), expected, rtol=1e-5, atol=1e-4)


def test_gradients_of_the_input_pass_through():
    kernel = sparse_matrix(6, 9, 0.3)
    gradient = jax.grad(lambda x: jnp.sum((x @ SparseKernel.of(kernel)) ** 2))(jnp.ones((2, 6)))
    expected = 2 * (np.ones((2, 6)) @ kernel) @ kernel.T
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5)

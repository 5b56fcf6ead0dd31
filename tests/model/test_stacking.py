"""Layers together and apart: the same parameters, and the same function."""

import re

import jax
import numpy as np
import optax
import pytest

from circuits_jax.config import ModelConfig
from circuits_jax.model.cache import empty_cache
from circuits_jax.model.parameters import ALL_LAYERS, named, of_all_layers, rule_for
from circuits_jax.model.stacking import layers_stacked, stack_layers, unstack_layers
from circuits_jax.model.transformer import Transformer
from tests.quick import quick_cases
from tests.training.tiny import assert_equal

CONFIG = ModelConfig(
    n_layer=3,
    d_model=8,
    d_head=4,
    d_mlp=12,
    n_ctx=6,
    vocab_size=10,
    position="concat",
    d_pos=3,
    activation_locations=("mlp_neuron",),
)
TOKENS = np.random.default_rng(1).integers(0, 10, size=(2, 6))


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: Transformer(CONFIG).init(jax.random.key(0), TOKENS))["params"]
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def test_a_stack_holds_the_layers_in_their_order(params):
    stacked = stack_layers(params)
    assert layers_stacked(stacked) and not layers_stacked(params)
    assert set(stacked) == {name for name in params if not name.startswith("h_")} | {ALL_LAYERS}
    for layer in range(CONFIG.n_layer):
        kernel = params[f"h_{layer}"]["mlp"]["c_fc"]["kernel"]
        np.testing.assert_array_equal(stacked[ALL_LAYERS]["mlp"]["c_fc"]["kernel"][layer], kernel)
    assert_equal(unstack_layers(stacked), params)
    assert_equal((stack_layers(stacked), unstack_layers(params)), (stacked, params))


def test_each_tree_of_an_optimizers_state_is_stacked(params):
    state = optax.adam(1e-3).init(params)
    stacked = stack_layers(state)
    assert layers_stacked(stacked[0].mu) and layers_stacked(stacked[0].nu)
    assert_equal(unstack_layers(stacked), state)


def test_a_stack_has_the_rules_of_its_layers(params):
    apart = {name: rule_for(name) for name in named(params)}
    for name in named(stack_layers(params)):
        first = name.replace(ALL_LAYERS, "h_0")
        assert of_all_layers(name) == (first != name) and rule_for(name) == apart[first]


@pytest.mark.parametrize(
    "remat", quick_cases({"none": "none", "blocks": "blocks", "dots": "dots"}, ("none",))
)
def test_a_scan_computes_what_the_layers_do(params, remat):
    network = Transformer(CONFIG, remat=remat)

    def loss(params):
        return (network.apply(params, TOKENS)[0] ** 2).mean()

    apart, gradient = jax.jit(jax.value_and_grad(loss))(params)
    scanned, stacked = jax.jit(jax.value_and_grad(loss))(stack_layers(params))
    np.testing.assert_allclose(scanned, apart, rtol=1e-6)
    pairs = zip(jax.tree.leaves(unstack_layers(stacked)), jax.tree.leaves(gradient), strict=True)
    for there, here in pairs:
        np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-6)


def loops(params, **given):
    text = str(jax.make_jaxpr(lambda p: Transformer(CONFIG).apply(p, TOKENS, **given))(params))
    return len(re.findall(rf"\blength={CONFIG.n_layer}\b", text))


def test_whoever_wants_to_see_a_layer_has_them_apart(params):
    stacked = stack_layers(params)
    assert loops(stacked) == 1 and loops(params) == 0
    seen = []
    given = {"tap": lambda site, x: seen.append(site) or x, "record": ("2.mlp.post_act",)}
    assert loops(stacked, **given) == loops(stacked, cache=empty_cache(CONFIG, 2)) == 0
    assert "1.attn.q" in seen

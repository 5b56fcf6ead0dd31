"""The one forward pass against the numpy network, and the promises of its arguments."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.config import TOPK_LOCATIONS, ModelConfig
from circuits_jax.model import sites
from circuits_jax.model.transformer import Transformer, init_params
from circuits_jax.storage.errors import ConfigError, UserError
from tests.model.reference import forward as reference
from tests.released.models import forward, random_params

BASE = ModelConfig(n_layer=2, d_model=8, d_head=4, d_mlp=12, n_ctx=7, vocab_size=11)
NORMS = ({"norm": "rms"}, {"norm": "layer"}, {"norm": "layer", "norm_bias": False})
POSITIONS = ({"position": "none"}, {"position": "add"}, {"position": "concat", "d_pos": 3})
SWITCHES = ("tied_unembed", "bias", "attention_sink", "bigram")
SHALLOW = dataclasses.replace(BASE, n_layer=1)
# Between them every option, and every pair of a norm with a position.
VARIETY = {
    "paper": BASE,
    "dense": dataclasses.replace(SHALLOW, activation_fraction=None, bias=False, bigram=False, n_head=3),
    "add": dataclasses.replace(
        SHALLOW, position="add", tied_unembed=True, attention_sink=False, logits_bias=True
    ),
    "concat": dataclasses.replace(SHALLOW, position="concat", d_pos=3, activation="relu", d_head=2, n_head=5),
    "layer": dataclasses.replace(SHALLOW, norm="layer", activation_fraction=0.5, residual_activation="relu"),
    "layer_add": dataclasses.replace(
        SHALLOW, norm="layer", position="add", norm_bias=False, activation_locations=TOPK_LOCATIONS
    ),
    "layer_concat": dataclasses.replace(
        SHALLOW, norm="layer", position="concat", d_pos=2, tied_unembed=True, logits_bias=True, bias=False
    ),
}
TOKENS = np.random.default_rng(3).integers(0, 11, size=(3, 6)).astype(np.int32)


@pytest.mark.parametrize("name", VARIETY)
def test_logits_and_every_activation_equal_the_numpy_network(name):
    config = VARIETY[name]
    params = random_params(config, seed=1)
    record = tuple(sites.sites(config))
    logits, records = forward(Transformer(config), params, TOKENS, record)
    expected, hooks = reference(config, params, TOKENS)
    assert logits.dtype == jnp.float32 and logits.shape == (3, 6, 11)
    assert set(records) == set(hooks)
    for site in record:
        np.testing.assert_allclose(records[site], hooks[site], rtol=2e-5, atol=2e-5, err_msg=site)
    np.testing.assert_allclose(logits, expected, rtol=2e-5, atol=5e-5)


def combinations():
    for norm, position in itertools.product(NORMS, POSITIONS):
        for values in itertools.product((False, True), repeat=len(SWITCHES)):
            switches = dict(zip(SWITCHES, values, strict=True)) | {"logits_bias": sum(values) % 2 == 0}
            yield dataclasses.replace(
                BASE, n_layer=1, activation_fraction=None, **norm, **position, **switches
            )


def expected_shapes(c):
    """The parameter tree by its description."""
    d, a, n, v, read = c.d_model, c.d_attn, c.neurons, c.vocab_size, c.d_read

    def linear(inputs, outputs):
        return {"kernel": (inputs, outputs)} | ({"bias": (outputs,)} if c.bias else {})

    def norm(width):
        return {"scale": (width,)} | ({"bias": (width,)} if c.norm == "layer" and c.norm_bias else {})

    block = {
        "ln_1": norm(d),
        "attn": {"c_attn": linear(read, 3 * a), "c_proj": linear(a, d)},
        "ln_2": norm(d),
        "mlp": {"c_fc": linear(read, n), "c_proj": linear(n, d)},
    }
    if c.attention_sink:
        block["attn"]["sink"] = (c.heads,)
    if c.position == "concat":
        block |= {"ln_p1": norm(c.d_pos), "ln_p2": norm(c.d_pos)}
    tree = {"wte": {"embedding": (v, d)}, "ln_f": norm(d)} | {f"h_{i}": block for i in range(c.n_layer)}
    if c.position != "none":
        tree["wpe"] = {"embedding": (c.n_ctx, c.d_pos or d)}
    if not c.tied_unembed:
        tree["lm_head"] = {"kernel": (d, v)}
    if c.logits_bias:
        tree["logits_bias"] = (v,)
    if c.has_bigram:
        tree["bigram"] = (v, v)
    return tree


def test_every_combination_has_its_parameters_and_traces():
    for config in combinations():
        init = functools.partial(Transformer(config).init_with_output, jax.random.key(0), TOKENS)
        (logits, _), variables = jax.eval_shape(init)
        params = variables["params"]
        assert jax.tree.map(lambda leaf: leaf.shape, params) == expected_shapes(config), config
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
        assert logits.shape == (3, 6, 11) and logits.dtype == jnp.float32


def test_the_number_of_parameters_of_the_papers_small_model():
    config = ModelConfig(n_layer=2, d_model=128, d_head=16, vocab_size=2048, bigram=False)
    params = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    halves = 4 * 128 * 128 + 4 * 128 + 2 * 4 * 128 * 128 + 5 * 128
    layer = halves + 8 + 2 * 128  # sinks and norms
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 2 * layer + 128 + 2 * 2048 * 128


def test_initial_values():
    config = dataclasses.replace(
        BASE, n_layer=2, d_model=64, d_mlp=256, vocab_size=200, position="add", norm="layer", logits_bias=True
    )
    params = jax.jit(lambda key: init_params(config, key))(jax.random.key(0))
    flat = {jax.tree_util.keystr(p, simple=True, separator="/"): np.asarray(x) for p, x in
            jax.tree_util.tree_leaves_with_path(params)}  # fmt: skip
    for name, value in flat.items():
        if name.endswith(("kernel", "embedding")):
            std = 0.02 / 2 if "c_proj" in name else 0.02  # sqrt(2 L) = 2
            assert abs(value.std() / std - 1) < 5 / value.size**0.5, name
            assert abs(value.mean()) < 5 * std / value.size**0.5, name
        else:
            np.testing.assert_array_equal(value, float(name.endswith("scale")), err_msg=name)
    again = jax.jit(lambda key: init_params(config, key))(jax.random.key(0))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), params, again))


@pytest.mark.parametrize("name", ["paper", pytest.param("layer_concat", marks=pytest.mark.slow)])
def test_at_gives_the_logits_of_that_position(name):
    config = VARIETY[name]
    params, model = random_params(config, seed=2), Transformer(config)
    full, _ = forward(model, params, TOKENS)
    at = np.array([5, 0, 3], np.int32)
    apply = jax.jit(lambda at: model.apply(params, TOKENS, at=at, record=("final_resid",)))
    logits, records = apply(at)
    assert logits.shape == (3, 11) and records["final_resid"].shape == (3, 6, 8)
    np.testing.assert_allclose(logits, np.asarray(full)[np.arange(3), at], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["paper", pytest.param("layer_concat", marks=pytest.mark.slow)])
def test_future_tokens_change_nothing(name):
    config = VARIETY[name]
    params, model = random_params(config, seed=4), Transformer(config)
    record = tuple(sites.sites(config))
    changed = TOKENS.copy()
    changed[:, 4:] = (changed[:, 4:] + 5) % 11
    (first, before), (second, after) = (forward(model, params, t, record) for t in (TOKENS, changed))
    np.testing.assert_array_equal(first[:, :4], second[:, :4])
    for site in record:
        np.testing.assert_array_equal(before[site][:, :4], after[site][:, :4], err_msg=site)
    assert not np.array_equal(first[:, 4:], second[:, 4:])
    short, _ = forward(model, params, TOKENS[:, :4])
    np.testing.assert_allclose(short, first[:, :4], rtol=1e-5, atol=1e-5)


def test_rows_of_a_batch_do_not_touch_each_other():
    params, model = random_params(BASE, seed=4), Transformer(BASE)
    changed = TOKENS.copy()
    changed[1] = (changed[1] + 1) % 11
    first, second = (np.asarray(forward(model, params, t)[0]) for t in (TOKENS, changed))
    np.testing.assert_array_equal(first[[0, 2]], second[[0, 2]])
    assert not np.array_equal(first[1], second[1])


@pytest.mark.slow
def test_only_the_sites_asked_for_are_recorded():
    model, params = Transformer(BASE), random_params(BASE)
    assert forward(model, params, TOKENS)[1] == {}
    assert set(forward(model, params, TOKENS, ("1.attn.y", "final_resid"))[1]) == {"1.attn.y", "final_resid"}


@pytest.mark.parametrize("site", ["2.attn.q", "0.attn.z", "resid_mid"])
def test_an_unknown_site_is_named(site):
    with pytest.raises(ConfigError, match=rf"'{site}'.*0\.\.1"):
        Transformer(BASE).apply(random_params(BASE), TOKENS, record=("0.attn.q", site))


def test_a_prompt_longer_than_the_context_is_refused():
    tokens = np.zeros((1, 8), np.int32)
    run = functools.partial(jax.eval_shape, Transformer(BASE).apply, random_params(BASE))
    assert run(tokens[:, :7])[0].shape == (1, 7, 11)
    with pytest.raises(UserError, match=r"8 tokens.*context.*7"):
        run(tokens)


def test_both_forms_of_the_parameters_are_taken():
    params, model = random_params(BASE), Transformer(BASE)
    first, _ = forward(model, params, TOKENS)
    np.testing.assert_allclose(first, forward(model, {"params": params}, TOKENS)[0], rtol=1e-5, atol=1e-5)


def test_bfloat16_compute_gives_float32_logits_near_those_of_float32():
    config = dataclasses.replace(BASE, n_layer=1, d_model=32, d_head=8, d_mlp=64, activation_fraction=None)
    params = random_params(config, seed=5)
    params = jax.tree.map(lambda x: x * 0.2, params)
    wide, _ = forward(Transformer(config), params, TOKENS)
    narrow_config = dataclasses.replace(config, dtype="bfloat16")
    record = tuple(sites.sites(config))
    narrow, records = forward(Transformer(narrow_config), params, TOKENS, record)
    assert narrow.dtype == jnp.float32
    assert {x.dtype for x in records.values()} == {jnp.dtype("bfloat16")}
    error = np.sqrt(np.mean((narrow - wide) ** 2)) / np.std(wide)
    assert 1e-5 < error < 0.03  # bfloat16 keeps 8 bits


def test_jit_and_grad_work_with_a_tap_and_records():
    model, params = Transformer(SHALLOW), random_params(SHALLOW, seed=6)

    def objective(params, scale):
        logits, records = model.apply(
            params,
            TOKENS,
            tap=lambda site, x: x * scale if site == "0.attn.v" else x,
            record=("0.attn.v", "final_resid"),
        )
        return jnp.mean(logits**2) + jnp.mean(records["0.attn.v"] ** 2)

    # Forward differences of the one real number: the gradient through tap and records is the true one.
    value = jax.jit(objective)
    grads, slope = jax.jit(jax.grad(objective, argnums=(0, 1)))(params, 1.0)
    estimate = (value(params, 1.002) - value(params, 0.998)) / 0.004
    np.testing.assert_allclose(slope, estimate, rtol=0.02)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    norms = {
        jax.tree_util.keystr(path): float(jnp.abs(leaf).max())
        for path, leaf in jax.tree_util.tree_leaves_with_path(grads)
    }
    assert min(norms.values()) > 0, norms


def test_the_bigram_row_is_that_of_the_current_token():
    params = jax.tree.map(np.zeros_like, random_params(BASE))
    params["bigram"] = np.arange(121, dtype=np.float32).reshape(11, 11)
    logits, _ = forward(Transformer(BASE), params, TOKENS)
    np.testing.assert_array_equal(logits, params["bigram"][TOKENS])

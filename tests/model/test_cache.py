"""A forward pass with a cache against one without: the same logits, however the tokens are cut into calls."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax import released
from circuits_jax.config import ModelConfig
from circuits_jax.model.cache import empty_cache
from circuits_jax.model.transformer import Transformer
from circuits_jax.storage.errors import ConfigError
from tests.model.test_transformer import BASE, TOKENS, VARIETY
from tests.released.models import forward, random_params
from tests.released.oracle import CASES, GOLDEN

TOLERANCE = 1e-5
# Between them: positions added and concatenated ("paper" has none), sinks, bigram table, both norms.
QUICK = ("a_gpt2_dense", "b_sparse_rms_sink", "e_cat_pos_sinusoidal")


@functools.partial(jax.jit, static_argnums=0)
def step(model, params, tokens, cache):
    logits, _, cache = model.apply(params, tokens, cache=cache)
    return logits, cache


def in_calls(model, params, tokens, lengths):
    """Logits of `tokens` given in calls of these lengths, one behind another."""
    cache, parts = empty_cache(model.config, batch=len(tokens)), []
    for part in np.split(tokens, np.cumsum(lengths)[:-1], axis=1):
        logits, cache = step(model, params, part, cache)
        parts.append(logits)
    assert int(cache.length) == tokens.shape[1]
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize(
    "case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in CASES]
)
def test_golden_cases_token_by_token(case):
    with np.load(GOLDEN / case / "io.npz") as arrays:
        tokens, expected = arrays["idx"].astype(np.int32), arrays["logits"]
    checkpoint = released.load(GOLDEN / case)
    found = in_calls(checkpoint.network, checkpoint.params, tokens, [1] * tokens.shape[1])
    whole, _ = forward(checkpoint.network, checkpoint.params, tokens)
    np.testing.assert_allclose(found, whole, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5)


def test_the_golden_cases_have_positions_sinks_tables_and_both_norms():
    configs = [json.loads((GOLDEN / case / "config.json").read_text()) for case in QUICK]
    for key in ("sink", "enable_bigram_table", "d_pos_emb", "rms_norm", "tied_unembed"):
        assert {bool(config.get(key)) for config in configs} == {True, False}, key


@pytest.mark.parametrize("lengths", [pytest.param((1, 1, 1, 1, 1, 1), marks=pytest.mark.slow), (3, 1, 2)])
def test_calls_of_any_length_without_positions(lengths):
    config = VARIETY["paper"]
    params, model = random_params(config, seed=2), Transformer(config)
    whole, _ = forward(model, params, TOKENS)
    np.testing.assert_allclose(in_calls(model, params, TOKENS, lengths), whole, rtol=0, atol=TOLERANCE)


def test_what_lies_behind_the_length_is_never_read():
    model, params = Transformer(BASE), random_params(BASE, seed=2)
    whole, _ = forward(model, params, TOKENS)
    padded = np.concatenate([TOKENS[:, :2], np.full((3, 5), 9, np.int32)], axis=1)
    _, cache = step(model, params, padded, empty_cache(BASE, batch=3))
    logits, cache = step(model, params, TOKENS[:, 2:3], cache.cut(2))
    np.testing.assert_allclose(logits[:, 0], whole[:, 2], rtol=0, atol=TOLERANCE)
    assert int(cache.length) == 3


@pytest.mark.slow
def test_tokens_that_do_not_fit_give_nan_and_not_something_else():
    model, params = Transformer(BASE), random_params(BASE, seed=2)
    cache = empty_cache(BASE, batch=3, size=6)
    logits, cache = step(model, params, TOKENS, cache)
    assert cache.size == 6 and np.isfinite(logits).all()
    logits, _ = step(model, params, TOKENS[:, :1], cache)
    assert np.isnan(logits).all()


def test_taps_act_on_what_is_cached_and_records_are_of_the_new_tokens():
    model, params = Transformer(BASE), random_params(BASE, seed=3)

    @jax.jit
    def run(tokens, cache=None):
        return model.apply(
            params,
            tokens,
            tap=lambda site, x: x.at[..., 0].set(2.0) if site == "0.attn.v" else x,
            record=("0.attn.v", "1.attn.y"),
            cache=cache,
        )

    whole, records = run(TOKENS)
    _, first, cache = run(TOKENS[:, :5], empty_cache(BASE, batch=3))
    logits, second, _ = run(TOKENS[:, 5:], cache)
    np.testing.assert_allclose(logits, whole[:, 5:], rtol=0, atol=TOLERANCE)
    for site, value in records.items():
        joined = jnp.concatenate([first[site], second[site]], axis=1)
        np.testing.assert_allclose(joined, value, rtol=0, atol=TOLERANCE, err_msg=site)


@pytest.mark.parametrize(("size", "words"), [(8, "8, more than the context of 7"), (0, "greater than 0")])
def test_sizes_that_no_context_has_are_refused(size, words):
    with pytest.raises(ConfigError, match=words):
        empty_cache(BASE, batch=1, size=size)


def test_a_model_of_full_attention_takes_no_cache():
    config = ModelConfig(n_layer=1, d_model=8, d_head=4, n_ctx=6, vocab_size=11, attention="full")
    tokens = np.zeros((1, 2), np.int32)
    with pytest.raises(ConfigError, match="'full', in which earlier tokens see later ones"):
        Transformer(config).apply({}, tokens, cache=empty_cache(config, 1))

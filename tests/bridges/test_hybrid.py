"""Hybrid passes: what enters at a site is all that counts, and what lies below is not paid for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.bridges.hybrid import enter, logits_from
from circuits_jax.bridges.model import bridge_sites, residuals
from circuits_jax.config import ModelConfig
from circuits_jax.model.transformer import Transformer, init_params

CONFIG = ModelConfig(
    n_layer=2, d_model=16, n_ctx=8, vocab_size=24, d_head=8, activation_fraction=None, bigram=False
)
SITES = bridge_sites(CONFIG)


@pytest.fixture(scope="module")
def setting():
    params = init_params(CONFIG, jax.random.PRNGKey(0))
    tokens = jax.random.randint(jax.random.PRNGKey(1), (2, 2, 8), 0, 24)
    return Transformer(CONFIG), params, tokens


@pytest.mark.parametrize("place", range(len(SITES)))
def test_a_pass_that_is_entered_is_that_of_the_value_s_own_prompt(setting, place):
    """No bigram table, so that the tokens of the receiving prompt are forgotten altogether."""
    model, params, tokens = setting
    logits, stream = residuals(model, params, tokens[0])
    found = logits_from(model, params, tokens[1], SITES[place], stream[place])
    np.testing.assert_allclose(found, logits, atol=1e-5)
    other, _ = residuals(model, params, tokens[1])
    assert float(jnp.abs(other - logits).max()) > 0.01
    by_place, _ = model.apply(params, tokens[1], tap=enter(SITES, jnp.int32(place), stream[place]))
    np.testing.assert_allclose(by_place, logits, atol=1e-5)


def test_what_lies_below_a_site_is_not_computed(setting):
    model, params, tokens = setting
    flops = []
    for site in SITES:
        value = jnp.zeros((2, 8, 16))
        run = jax.jit(lambda value, site=site: logits_from(model, params, tokens[0], site, value))
        flops.append(run.lower(value).compile().cost_analysis()["flops"])
    assert flops == sorted(flops, reverse=True)
    # From the last site on there are a norm and the unembedding: 2 x 16 x 24 operations a token.
    assert 2 * 16 * 24 * 16 <= flops[-1] < 2.6 * 16 * 24 * 16
    # One MLP half more: two products of 16 x 64, and its 64 x 16 nonlinearities, some 60 operations each.
    assert 0 <= flops[-2] - flops[-1] - 2 * 2 * 16 * 64 * 16 < 100 * 64 * 16

"""Taps inside the real forward pass: what each changes, and that it changes nothing before it."""

import jax
import numpy as np
import pytest

from circuits_jax.config import ModelConfig
from circuits_jax.model import sites, taps
from circuits_jax.model.transformer import Transformer
from tests.released.models import random_params

CONFIG = ModelConfig(n_layer=2, d_model=8, d_head=4, d_mlp=12, n_ctx=6, vocab_size=11)
MODEL = Transformer(CONFIG)
PARAMS = random_params(CONFIG, seed=1)
SITES = tuple(sites.sites(CONFIG))
RNG = np.random.default_rng(2)
TOKENS, OTHER_TOKENS = RNG.integers(0, 11, size=(2, 3, 6)).astype(np.int32)
# q, k and v are computed side by side: none of them is downstream of another.
BESIDE = {"attn.q": ("attn.k", "attn.v"), "attn.k": ("attn.v",)}


def run(tap=None, tokens=TOKENS):
    """All activations, and the logits under the name "logits", as numpy arrays."""
    logits, records = jax.jit(lambda t: MODEL.apply(PARAMS, t, tap=tap, record=SITES))(tokens)
    return {site: np.asarray(x) for site, x in (records | {"logits": logits}).items()}


PLAIN, OTHER = run(), run(tokens=OTHER_TOKENS)


def changed(result):
    return {site for site in PLAIN if not np.array_equal(result[site], PLAIN[site])}


def downstream(site):
    """What may differ when `site` does: everything the forward pass comes to later, but for its siblings."""
    later = (*SITES[SITES.index(site) :], "logits")
    layer, _, location = site.partition(".")
    return set(later) - {f"{layer}.{other}" for other in BESIDE.get(location, ())}


@pytest.mark.parametrize("site", SITES)
def test_adding_at_a_site_changes_what_is_downstream_and_only_that(site):
    delta = np.linspace(1, 2, PLAIN[site].shape[-1], dtype=np.float32)
    result = run(taps.add({site: delta}))
    np.testing.assert_allclose(result[site], PLAIN[site] + delta, rtol=1e-6)
    found = changed(result)
    assert found <= downstream(site)
    assert {site, "final_resid", "logits"} <= found


def test_a_replaced_residual_stream_makes_the_other_prompts_output():
    result = run(taps.replace({"1.resid_in": OTHER["1.resid_in"]}))
    before = SITES.index("1.resid_in")
    for site in SITES:
        expected = OTHER if SITES.index(site) >= before else PLAIN
        np.testing.assert_array_equal(result[site], expected[site], err_msg=site)
    bigram = np.asarray(PARAMS["bigram"])
    np.testing.assert_allclose(
        result["logits"] - bigram[TOKENS], OTHER["logits"] - bigram[OTHER_TOKENS], rtol=1e-5, atol=1e-5
    )


def test_replace_broadcasts_to_every_position():
    values = np.arange(12, dtype=np.float32)
    result = run(taps.replace({"0.mlp.post_act": values}))
    np.testing.assert_array_equal(result["0.mlp.post_act"], np.broadcast_to(values, (3, 6, 12)))


def test_mix_keeps_what_the_mask_keeps_and_takes_the_rest_from_the_others():
    site = "0.mlp.post_act"
    mask = np.array([1, 0] * 6, np.float32)
    result = run(taps.mix({site: mask}, {site: OTHER[site], "0.attn.q": OTHER["0.attn.q"]}))
    np.testing.assert_array_equal(result[site], np.where(mask, PLAIN[site], OTHER[site]))
    np.testing.assert_array_equal(result["0.attn.q"], PLAIN["0.attn.q"])  # it has no mask
    assert "logits" in changed(result) <= downstream(site)


def test_a_mask_of_ones_changes_nothing_and_of_zeros_everything():
    nodes = sites.node_sites(CONFIG)
    means = {site: PLAIN[site].mean((0, 1)) for site in nodes}
    ones, zeros = ({site: np.full(w, value, np.float32) for site, w in nodes.items()} for value in (1, 0))
    assert changed(run(taps.mix(ones, means))) == set()
    result = run(taps.mix(zeros, means))
    for site in nodes:
        np.testing.assert_array_equal(result[site], np.broadcast_to(means[site], result[site].shape))
    # Nothing passes from one position to another, nor from the prompt but through embedding and bigram table.
    np.testing.assert_allclose(
        result["final_resid"] - PLAIN["0.resid_in"],
        np.broadcast_to(sum(m for s, m in means.items() if s.endswith("resid_delta")), (3, 6, 8)),
        rtol=1e-4,
        atol=1e-4,
    )


def test_the_gradient_of_a_mask_is_what_it_lets_through():
    site = "1.attn.v"
    mean = PLAIN[site].mean((0, 1))

    def total(mask):
        _, records = MODEL.apply(PARAMS, TOKENS, tap=taps.mix({site: mask}, {site: mean}), record=(site,))
        return records[site].sum()

    gradient = jax.jit(jax.grad(total))(np.full(8, 0.5, np.float32))
    np.testing.assert_allclose(gradient, (PLAIN[site] - mean).sum((0, 1)), rtol=1e-4, atol=1e-4)


def test_compose_applies_its_taps_in_order_and_skips_none():
    site = "0.attn.resid_delta"
    double = lambda name, x: 2 * x if name == site else x  # noqa: E731
    one = np.ones(8, np.float32)
    first = run(taps.compose(taps.add({site: one}), None, double))[site]
    second = run(taps.compose(double, taps.add({site: one})))[site]
    np.testing.assert_allclose(first, 2 * (PLAIN[site] + 1), rtol=1e-6)
    np.testing.assert_allclose(second, 2 * PLAIN[site] + 1, rtol=1e-6)
    assert changed(run(taps.compose(None))) == set() == changed(run(taps.compose()))


def test_taps_keep_the_type_of_what_they_change():
    x = np.ones((1, 2, 3), np.float32).astype(jax.numpy.bfloat16)
    wide = {"s": np.full(3, 0.5, np.float32)}
    for tap in (taps.add(wide), taps.replace(wide), taps.mix(wide, wide)):
        assert tap("s", jax.numpy.asarray(x)).dtype == jax.numpy.bfloat16

"""Taps inside the real forward pass: what each changes, and that it changes nothing before it."""

import functools

import jax
import numpy as np
import pytest

from circuits_jax.config import ModelConfig
from circuits_jax.model import sites, taps
from circuits_jax.model.transformer import Transformer
from tests.released.models import random_params

# AbsTopK is off: a rounding error would now and then swap two entries at its threshold.
CONFIG = ModelConfig(
    n_layer=2, d_model=8, d_head=4, d_mlp=12, n_ctx=6, vocab_size=11, activation_fraction=None
)
MODEL = Transformer(CONFIG)
PARAMS = random_params(CONFIG, seed=1)
SITES = tuple(sites.sites(CONFIG))
WIDTHS, NODES = sites.sites(CONFIG), sites.node_sites(CONFIG)
RNG = np.random.default_rng(2)
TOKENS, OTHER_TOKENS = RNG.integers(0, 11, size=(2, 3, 6)).astype(np.int32)
# q, k and v are computed side by side: none of them is downstream of another.
BESIDE = {"attn.q": ("attn.k", "attn.v"), "attn.k": ("attn.v",)}
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def forward(tap, tokens):
    logits, records = MODEL.apply(PARAMS, tokens, tap=tap, record=SITES)
    return records | {"logits": logits}


@functools.cache
def compiled(make):
    """One program for all the values that `make`, a tap's maker, is called with."""
    return jax.jit(lambda tokens, *values: forward(make(*values), tokens))


def run(make, *values, tokens=TOKENS):
    """All activations, and the logits under the name "logits", as numpy arrays."""
    return {site: np.asarray(x) for site, x in compiled(make)(tokens, *values).items()}


def adding(deltas):
    """The run with `deltas` added; zeros are added elsewhere, so that all such runs share a program."""
    zeros = {site: np.zeros(width, np.float32) for site, width in WIDTHS.items()}
    return run(taps.add, zeros | deltas)


def mixing(masks, others):
    """The run with `masks` at all nodes: 1, which keeps everything, where none is given."""
    ones = {site: np.ones(width, np.float32) for site, width in NODES.items()}
    wide = {site: np.broadcast_to(others.get(site, np.float32(0)), PLAIN[site].shape) for site in NODES}
    return run(taps.mix, ones | masks, wide)


PLAIN, OTHER = (run(taps.compose, tokens=tokens) for tokens in (TOKENS, OTHER_TOKENS))


def changed(result, plain):
    return {site for site in plain if not np.array_equal(result[site], plain[site])}


def downstream(site):
    """What may differ when `site` does: everything the forward pass comes to later, but for its siblings."""
    later = (*SITES[SITES.index(site) :], "logits")
    layer, _, location = site.partition(".")
    return set(later) - {f"{layer}.{other}" for other in BESIDE.get(location, ())}


@pytest.mark.parametrize("site", SITES)
def test_adding_at_a_site_changes_what_is_downstream_and_only_that(site):
    delta = np.linspace(1, 2, WIDTHS[site], dtype=np.float32)
    plain, result = adding({}), adding({site: delta})
    np.testing.assert_allclose(plain["logits"], PLAIN["logits"], **CLOSE)
    np.testing.assert_allclose(result[site], plain[site] + delta, rtol=1e-6, atol=1e-6)
    found = changed(result, plain)
    assert found <= downstream(site)
    assert {site, "final_resid", "logits"} <= found


def test_a_replaced_residual_stream_makes_the_other_prompts_output():
    result = run(taps.replace, {"1.resid_in": OTHER["1.resid_in"]})
    before = SITES.index("1.resid_in")
    for site in SITES:
        expected = OTHER if SITES.index(site) >= before else PLAIN
        np.testing.assert_allclose(result[site], expected[site], err_msg=site, **CLOSE)
    np.testing.assert_array_equal(result["1.resid_in"], OTHER["1.resid_in"])
    bigram = np.asarray(PARAMS["bigram"])
    np.testing.assert_allclose(
        result["logits"] - bigram[TOKENS], OTHER["logits"] - bigram[OTHER_TOKENS], **CLOSE
    )


def test_replace_broadcasts_to_every_position():
    values = np.arange(12, dtype=np.float32)
    replaced = taps.replace({"s": values})("s", np.zeros((3, 6, 12), np.float32))
    np.testing.assert_array_equal(replaced, np.broadcast_to(values, (3, 6, 12)))


def test_mix_keeps_what_the_mask_keeps_and_takes_the_rest_from_the_others():
    site = "0.mlp.post_act"
    mask = np.array([1, 0] * 6, np.float32)
    plain = mixing({}, OTHER)
    np.testing.assert_allclose(plain["logits"], PLAIN["logits"], **CLOSE)
    result = mixing({site: mask}, OTHER)
    np.testing.assert_array_equal(result[site], np.where(mask, plain[site], OTHER[site]))
    found = changed(result, plain)
    assert {site, "logits"} <= found <= downstream(site)


def test_a_site_without_a_mask_or_value_is_left_alone():
    x = jax.numpy.ones((1, 2, 3))
    for tap in (taps.mix({}, {"s": x * 2}), taps.replace({}), taps.add({}), taps.compose(None)):
        assert tap("s", x) is x


def test_with_all_nodes_at_their_means_nothing_passes_but_the_embedding():
    means = {site: PLAIN[site].mean((0, 1)) for site in NODES}
    result = mixing({site: np.zeros(width, np.float32) for site, width in NODES.items()}, means)
    for site in NODES:
        np.testing.assert_array_equal(result[site], np.broadcast_to(means[site], result[site].shape))
    written = sum(mean for site, mean in means.items() if site.endswith("resid_delta"))
    np.testing.assert_allclose(result["final_resid"], PLAIN["0.resid_in"] + written, **CLOSE)


def test_the_gradient_of_a_mask_is_what_it_lets_through():
    x, mean = PLAIN["1.attn.v"], PLAIN["1.attn.v"].mean((0, 1))

    def total(mask):
        return taps.mix({"s": mask}, {"s": mean})("s", x).sum()

    gradient = jax.jit(jax.grad(total))(np.full(8, 0.5, np.float32))
    np.testing.assert_allclose(gradient, (x - mean).sum((0, 1)), rtol=1e-4, atol=1e-4)


def test_compose_applies_its_taps_in_order_and_skips_none():
    site = "0.attn.resid_delta"

    def make(one):
        return taps.compose(taps.add({site: one}), None, lambda name, x: 2 * x if name == site else x)

    result = run(make, np.ones(8, np.float32))
    np.testing.assert_allclose(result[site], 2 * (PLAIN[site] + 1), **CLOSE)
    np.testing.assert_allclose(result["0.resid_mid"], PLAIN["0.resid_in"] + result[site], **CLOSE)


def test_taps_keep_the_type_of_what_they_change():
    x = np.ones((1, 2, 3), np.float32).astype(jax.numpy.bfloat16)
    wide = {"s": np.full(3, 0.5, np.float32)}
    for tap in (taps.add(wide), taps.replace(wide), taps.mix(wide, wide)):
        assert tap("s", jax.numpy.asarray(x)).dtype == jax.numpy.bfloat16

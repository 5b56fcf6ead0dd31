import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.circuits.ablation.edge_removal import with_biases
from circuits_jax.circuits.ablation.pairs import PairBatch, pair_difference
from circuits_jax.circuits.masks import full_masks
from circuits_jax.circuits.pruning.compaction import LEAST, capacities, compact, masked_difference
from circuits_jax.config import ModelConfig
from circuits_jax.model.model import Model
from circuits_jax.model.sites import node_sites
from circuits_jax.model.taps import mix
from circuits_jax.model.transformer import init_params
from tests.quick import quick_cases

BASE = ModelConfig(n_layer=2, d_model=32, d_head=8, d_mlp=48, n_ctx=8, vocab_size=20)
ONE_LAYER = {"n_layer": 1, "d_head": 4, "d_model": 24}
OPTIONS = {
    "no sinks": {"attention_sink": False},
    "no AbsTopK": {"activation_fraction": None},
    "no biases, positions added": {"bias": False, "position": "add"},
    "AbsTopK on the residual stream, few heads": {
        "activation_locations": ("resid_post_attn", "resid_post_mlp"), "n_head": 2
    },
    "layer norm, relu, tied": {
        "norm": "layer", "activation": "relu", "tied_unembed": True, "bigram": False, "logits_bias": True
    },
    "positions joined, relu residual": {"position": "concat", "d_pos": 5, "residual_activation": "relu"},
    }  # fmt: skip
QUICK = ("no biases, positions added",)
options = pytest.mark.parametrize("change", quick_cases(OPTIONS, QUICK))


def random_model(change):
    config = dataclasses.replace(BASE, **change)
    params = init_params(config, jax.random.key(0))
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda x: 3 * x + np.float32(0.3) * rng.normal(size=x.shape).astype("f"), params)
    return with_biases(Model(config, params))


def batch(pairs=8, length=8):
    rng = np.random.default_rng(3)
    tokens = rng.integers(0, 20, (pairs, 2, length)).astype(np.int32)
    last = rng.integers(3, length, pairs).astype(np.int32)
    return PairBatch(tokens, last, np.tile(np.int32([3, 4]), (pairs, 1)))


def means_of(config, final=False):
    rng = np.random.default_rng(4)
    return {s: rng.normal(size=w).astype(np.float32) for s, w in node_sites(config, final).items()}


def random_masks(config, share, seed=5, final=False):
    rng = np.random.default_rng(seed)
    return {s: (rng.random(w) < share).astype(np.float32) for s, w in node_sites(config, final).items()}


def envelope_of(config, final=False):
    """Some sites whole, some empty, one head of a value site whole, the rest thinned, some to very few."""
    masks = random_masks(config, 0.3, final=final)
    masks["0.attn.act_in"][:] = 1
    masks["0.attn.v"][: config.d_head] = 1
    masks["0.mlp.post_act"][5:] = 0
    for site in ("1.mlp.post_act", "1.attn.q", "1.mlp.act_in", "1.attn.resid_delta"):
        if site in masks:
            masks[site][:] = 0
    return masks


def losses(model, means, masks, data):
    return pair_difference(model.network, model.params, data, tap=mix(masks, means))


def ones_with_ties(change):
    """The same network with embeddings so coarse that magnitudes tie."""
    model = random_model(change)
    embedding = {"embedding": jnp.round(model.params["wte"]["embedding"])}
    return Model(model.config, {**model.params, "wte": embedding})


@pytest.mark.slow
@pytest.mark.parametrize("make", [random_model, ones_with_ties])
def test_the_cut_network_is_the_masked_one_with_two_layers(make):
    check_cut(make({}))


@pytest.mark.slow
def test_the_cut_network_is_the_masked_one_where_magnitudes_tie():
    check_cut(ones_with_ties(ONE_LAYER))


@options
def test_the_cut_network_is_the_masked_one(change):
    check_cut(random_model(ONE_LAYER | change))


@pytest.mark.parametrize(
    "change", [{}, pytest.param(OPTIONS["positions joined, relu residual"], marks=pytest.mark.slow)]
)
def test_the_cut_network_is_the_masked_one_with_nodes_at_the_final_residual_stream(change):
    check_cut(random_model(ONE_LAYER | change), final=True)


def check_cut(model, final=False):
    config, data = model.config, batch()
    means, envelope = means_of(config, final), envelope_of(config, final)
    compacted = compact(config, model.params, means, envelope, capacities(config, [envelope]))
    shared = (model.params, means, compacted)
    run = jax.jit(lambda masks: masked_difference(model.network, shared, masks, data))
    plain = jax.jit(lambda masks: losses(model, means, masks, data))
    for seed in range(3):
        masks = {s: m * random_masks(config, 0.7, seed, final)[s] for s, m in envelope.items()}
        expected = plain(masks)
        assert float(jnp.abs(expected).max()) > 0.1
        np.testing.assert_allclose(run(masks), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.slow
def test_uncut_it_is_the_masked_network_and_so_are_its_slopes():
    model = random_model(ONE_LAYER)
    data, means, masks = batch(), means_of(model.config), random_masks(model.config, 0.5)
    weights = np.random.default_rng(0).normal(size=(8, 2))

    def total(run):
        return jax.jit(jax.value_and_grad(lambda m: (run(m) * weights).sum()))(masks)

    value, slopes = total(lambda m: masked_difference(model.network, (model.params, means, ()), m, data))
    expected, wanted = total(lambda m: losses(model, means, m, data))
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3), slopes, wanted)


@pytest.mark.slow
def test_slopes_of_the_cut_network_are_the_masked_one_s_within_the_envelope():
    model = random_model({})
    data, means, envelope = batch(), means_of(model.config), envelope_of(model.config)
    compacted = compact(model.config, model.params, means, envelope, capacities(model.config, [envelope]))
    shared = (model.params, means, compacted)
    cut = jax.jit(jax.grad(lambda m: masked_difference(model.network, shared, m, data).sum()))(envelope)
    whole = jax.jit(jax.grad(lambda m: losses(model, means, m, data).sum()))(envelope)
    for site, mask in envelope.items():
        np.testing.assert_allclose(cut[site] * mask, whole[site] * mask, rtol=2e-3, atol=2e-3, err_msg=site)


@pytest.mark.slow
def test_an_empty_location_costs_nothing():
    model = random_model(ONE_LAYER | {"d_mlp": 96})
    data, means = batch(), means_of(model.config)

    def flops(envelope):
        compacted = compact(model.config, model.params, means, envelope, capacities(model.config, [envelope]))
        run = jax.jit(lambda c, m: masked_difference(model.network, (model.params, means, c), m, data))
        return run.lower(compacted, envelope).compile().cost_analysis()["flops"]

    everything = full_masks(model.config)
    without_mlp = {s: 0 * m if s.endswith("mlp.post_act") else m for s, m in everything.items()}
    assert flops(without_mlp) < 0.7 * flops(everything)
    assert flops(full_masks(model.config, 0)) < 0.1 * flops(everything)


def test_capacities_are_few_and_hold_every_envelope():
    config = dataclasses.replace(BASE, d_model=128, d_mlp=500)
    envelopes = [random_masks(config, share) for share in (0.0, 0.05, 0.6)]
    for many in (envelopes[:1], envelopes[:2], envelopes):
        room = capacities(config, many)
        for site, width in node_sites(config).items():
            need = max(mask[site].sum() for mask in many)
            assert need <= room[site] <= max(2 * need, LEAST)
            assert room[site] in (0, 8, 16, 32, 64, 128, 256, width)

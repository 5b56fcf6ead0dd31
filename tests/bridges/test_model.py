"""Bridges' own arithmetic: sites, encoders, decoders, and models that none can join."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.bridges.model import (
    at_site,
    bridge_sites,
    decode,
    encode,
    encoder_target,
    init_bridge,
    make_bridge,
    residuals,
)
from circuits_jax.config import TOPK_LOCATIONS, BridgeConfig, ModelConfig
from circuits_jax.model.transformer import Transformer, init_params
from circuits_jax.storage.errors import BridgeError, ConfigError
from tests.bridges.models import DENSE, SMOOTH, SPARSE

KEY = jax.random.PRNGKey(0)


def changed(config, **values):
    return dataclasses.replace(config, **values)


def random(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def test_the_sites_are_before_every_half_and_after_the_last():
    names = bridge_sites(ModelConfig(n_layer=2))
    assert names == ("0.resid_in", "0.resid_mid", "1.resid_in", "1.resid_mid", "final_resid")
    assert len(bridge_sites(ModelConfig(n_layer=8))) == 17


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("n_layer", 2, ["2 layers", "1", "model.n_layer"]),
        ("n_ctx", 8, ["8 tokens of context", "6", "model.n_ctx"]),
        ("vocab_size", 30, ["30 tokens", "20", "model.vocab_size"]),
    ],
)
def test_models_that_cannot_be_joined_are_refused(field, value, words):
    with pytest.raises(BridgeError) as caught:
        make_bridge(changed(DENSE, **{field: value}), SPARSE, BridgeConfig())
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("sparse", "fraction", "keep"),
    [
        (SPARSE, None, 3),
        (SMOOTH, None, None),
        (changed(SPARSE, activation_locations=TOPK_LOCATIONS[:8]), None, None),
        (changed(SPARSE, activation_locations=("resid_post_attn",)), None, 3),
        (SMOOTH, 0.5, 6),
    ],
)
def test_an_encoder_keeps_what_the_sparse_stream_keeps(sparse, fraction, keep):
    assert make_bridge(DENSE, sparse, BridgeConfig(fraction=fraction)).keep == keep


@pytest.mark.parametrize(
    ("sparse", "fraction", "words"),
    [
        (SPARSE, 0.05, ["bridge.fraction is 0.05", "12 channels", "1/12"]),
        (changed(SPARSE, activation_fraction=0.07), None, ["model.activation_fraction is 0.07"]),
    ],
)
def test_an_encoder_that_would_keep_nothing_is_refused(sparse, fraction, words):
    with pytest.raises(BridgeError) as caught:
        make_bridge(DENSE, sparse, BridgeConfig(fraction=fraction))
    assert [word for word in words if word not in str(caught.value)] == []


def test_encoder_and_decoder_are_linear_maps_of_their_own_site():
    bridge = make_bridge(DENSE, SPARSE, BridgeConfig())
    params = jax.tree.map(lambda leaf: leaf + 0.05, init_bridge(bridge, KEY))
    dense, sparse = random(3, 2, 4, 8), random(3, 2, 4, 12)
    encoded, decoded = encode(bridge, params, dense), decode(params, sparse)
    for place in range(3):
        encoder, decoder = (
            {name: leaf[place] for name, leaf in params[side].items()} for side in ("encoder", "decoder")
        )
        z = dense[place] @ encoder["kernel"] + encoder["bias"]
        threshold = np.sort(np.abs(z), axis=-1)[..., -3][..., None]
        np.testing.assert_allclose(encoded[place], np.where(np.abs(z) >= threshold, z, 0), atol=1e-5)
        np.testing.assert_allclose(
            decoded[place], sparse[place] @ decoder["kernel"] + decoder["bias"], atol=1e-5
        )
        alone = encode(bridge, at_site(params, jnp.int32(place)), dense[place : place + 1])
        np.testing.assert_allclose(alone[0], encoded[place], atol=1e-6)


def test_the_target_of_site_0_alone_is_cut():
    bridge = make_bridge(DENSE, SPARSE, BridgeConfig())
    stream = jnp.asarray(random(3, 1, 4, 12))
    target = encoder_target(bridge, stream)
    assert (np.count_nonzero(target[0], axis=-1) == 3).all()
    np.testing.assert_array_equal(np.asarray(target[0])[target[0] != 0], stream[0][target[0] != 0])
    np.testing.assert_array_equal(target[1:], stream[1:])


@pytest.mark.slow
def test_residuals_are_the_streams_the_halves_read():
    params = init_params(SPARSE, KEY)
    tokens = jnp.arange(12).reshape(2, 6)
    _, stream = residuals(Transformer(SPARSE), params, tokens)
    assert stream.shape == (3, 2, 6, 12)
    np.testing.assert_allclose(stream[0], params["wte"]["embedding"][tokens])
    assert (np.count_nonzero(stream[1:], axis=-1) <= 3).all()


def test_a_threshold_encoder_cuts_what_is_below_and_learns_its_threshold():
    bridge = make_bridge(DENSE, SPARSE, BridgeConfig(encoder="threshold"))
    params = init_bridge(bridge, KEY)
    dense = random(3, 2, 4, 8)
    whole = encode(dataclasses.replace(bridge, encoder="abs_top_k", keep=None), params, dense)
    params["encoder"]["log_threshold"] = jnp.full((3, 12), jnp.log(0.4))
    found = encode(bridge, params, dense)
    np.testing.assert_allclose(found, np.where(np.abs(whole) >= 0.4, whole, 0), atol=1e-6)

    def kept(log_threshold):
        encoder = {**params["encoder"], "log_threshold": log_threshold}
        return jnp.sum(whole * encode(bridge, {**params, "encoder": encoder}, dense))

    # A higher threshold keeps less of every channel that has entries near it.
    gradient = jax.grad(kept)(params["encoder"]["log_threshold"])
    assert float(gradient.max()) <= 0 and float(gradient.min()) < 0


def test_an_unknown_encoder_is_refused():
    with pytest.raises(ConfigError, match=r"bridge.encoder.*'relu'.*abs_top_k, threshold"):
        BridgeConfig(encoder="relu")

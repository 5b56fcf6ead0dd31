import dataclasses

import jax
import numpy as np
import pytest

from circuits_jax.circuits.ablation.means import mean_activations, reference_activations, reference_sites
from circuits_jax.circuits.ablation.pairs import pair_batches
from circuits_jax.config import ModelConfig
from circuits_jax.model.model import Model
from circuits_jax.model.sites import node_sites
from circuits_jax.model.transformer import init_params
from circuits_jax.storage.errors import ConfigError
from circuits_jax.tasks.task import Pairs

TINY = ModelConfig(n_layer=1, d_model=16, d_head=8, n_ctx=20, vocab_size=12, bigram=False)


def model_of(config):
    return Model(config, jax.jit(lambda: init_params(config, jax.random.key(0)))())


def test_references_are_of_all_nodes_and_of_what_attention_makes_of_values():
    config = dataclasses.replace(TINY, n_layer=2, n_head=3)
    extra = dict(reference_sites(config))
    for site, width in node_sites(config).items():
        assert extra.pop(site) == width
    assert extra == {"0.attn.y": 24, "1.attn.y": 24}
    assert reference_sites(config, final=True) == reference_sites(config) | {"final_resid": 16}


def test_mean_activations_are_means_over_all_positions_of_all_batches():
    model = model_of(TINY)
    tokens = np.random.default_rng(0).integers(0, 12, (3, 2, 8)).astype(np.int32)
    means = mean_activations(model, tokens)
    _, records = model.apply(tokens.reshape(6, 8), record=tuple(means))
    assert set(means) == set(reference_sites(TINY))
    for site, mean in means.items():
        np.testing.assert_allclose(mean, np.asarray(records[site]).reshape(48, -1).mean(0), atol=1e-6)


def test_references_are_means_or_zeros_and_nothing_else():
    model = model_of(TINY)
    tokens = np.zeros((1, 1, 4), np.int32)
    zeros = reference_activations(model, tokens, "zero")
    assert {site: x.shape for site, x in zeros.items()} == {s: (w,) for s, w in reference_sites(TINY).items()}
    assert not any(np.asarray(x).any() for x in zeros.values())
    with pytest.raises(ConfigError, match="mean, zero"):
        reference_activations(model, tokens, "median")


def pairs_of(longest):
    rng = np.random.default_rng(longest)
    last = rng.integers(3, longest, 6).astype(np.int32)
    last[2] = longest - 1
    return Pairs(
        task="riddle",
        split="train",
        tokens=rng.integers(0, 12, (6, 2, 80)).astype(np.int32),
        last=last,
        answers=np.tile(np.array([3, 4], np.int32), (6, 1)),
        texts=[("a", "b")] * 6,
        survived=1.0,
    )


@pytest.mark.parametrize(("longest", "length"), [((5, 7), 32), ((5, 33), 64), ((64, 8), 64), ((65, 4), 80)])
def test_splits_are_cut_to_one_length_that_fits_both(longest, length):
    splits = [pairs_of(each) for each in longest]
    for pairs, (tokens, last, answers) in zip(splits, pair_batches(splits, 80), strict=True):
        np.testing.assert_array_equal(tokens, pairs.tokens[..., :length])
        np.testing.assert_array_equal(last, pairs.last)
        np.testing.assert_array_equal(answers, pairs.answers)

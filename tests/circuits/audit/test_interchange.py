"""Interventions on planted networks, whose circuit is known to be the one the model uses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.circuits.ablation.donors import another_pair, donated
from circuits_jax.circuits.ablation.means import mean_activations
from circuits_jax.circuits.ablation.pairs import PairBatch, pair_difference
from circuits_jax.circuits.audit.interchange import interchange
from circuits_jax.circuits.audit.interventions import Interventions
from circuits_jax.circuits.masks import full_masks, outside
from circuits_jax.circuits.planted import DESIGNS, plant
from circuits_jax.config import ModelConfig
from circuits_jax.model.model import Model
from circuits_jax.model.taps import mix
from circuits_jax.model.transformer import init_params
from circuits_jax.tasks.calibration import calibrate

pytestmark = pytest.mark.computes


QUICK = "quotes"
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in DESIGNS if name != QUICK]


@pytest.fixture(scope="module", params=[QUICK, *SLOW])
def case(request):
    """(network, params, means, the planted circuit's masks, test pairs)."""
    planted = plant(request.param, seed=3, test_pairs=32)
    means = mean_activations(planted.model, planted.corpus)
    masks = full_masks(planted.config, 0.0)
    for site, index in planted.nodes:
        masks[site][index] = 1
    pairs = planted.test
    data = PairBatch(*map(jnp.asarray, (pairs.tokens, pairs.last, pairs.answers)))
    return planted.model.network, planted.params, means, masks, data


@pytest.fixture(scope="module")
def loss_with(case):
    """The task loss, calibrated on these very pairs, with only the nodes of a mask."""
    network, params, means, _, pairs = case
    return jax.jit(lambda kept: calibrate(pair_difference(network, params, pairs, mix(kept, means)))[2])


@pytest.mark.slow
def test_without_its_circuit_the_model_fails(case, loss_with):
    assert loss_with(outside(case[3])) > 0.5


def test_without_the_nodes_outside_it_does_not(case, loss_with):
    assert loss_with(case[3]) < 0.15


@pytest.mark.slow
def test_the_answer_follows_the_circuit_and_not_the_rest(case):
    network, params, _, masks, pairs = case
    flipped = jax.jit(lambda m: interchange(network, params, m, pairs))
    assert flipped(masks) > 0.95
    assert flipped(outside(masks)) < 0.05
    assert flipped(full_masks(network.config, 0.0)) < 0.05


@pytest.fixture(scope="module")
def small():
    """(model, pairs of different lengths) of a random network."""
    config = ModelConfig(n_layer=1, d_model=8, d_head=8, n_ctx=8, vocab_size=12, bigram=False)
    params = jax.jit(init_params, static_argnums=0)(config, jax.random.key(0))
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 12, (16, 2, 8)).astype(np.int32)
    last = rng.integers(3, 8, 16).astype(np.int32)
    answers = np.tile(np.array([3, 4], np.int32), (16, 1))
    return Model(config, jax.tree.map(lambda x: 5 * x, params)), PairBatch(tokens, last, answers)


def test_donors_give_their_values_aligned_at_the_last_token(small):
    model, pairs = small
    last, site = pairs.last, "0.mlp.act_in"
    donors = another_pair(pairs, seed=0)
    given = jax.jit(lambda: donated(model.network, model.params, [site], last, donors))()[site]
    rows = donors.tokens.reshape(-1, 8)
    own = jax.jit(lambda: model.network.apply(model.params, rows, record=[site]))()[1][site]
    ends, theirs = np.repeat(last, 2), donors.last.reshape(-1)
    assert (ends > theirs).any() and (ends < theirs).any()
    given, own = np.asarray(given), np.asarray(own)
    for row in range(len(rows)):
        for back in range(ends[row] + 1):
            expected = own[row, max(theirs[row] - back, 0)]
            np.testing.assert_allclose(given[row, ends[row] - back], expected, atol=1e-6)


def test_a_donor_is_never_of_the_same_pair_and_a_seed_decides_it(small):
    _, pairs = small
    tokens = pairs.tokens
    donors = another_pair(pairs, seed=1)
    for pair, both in enumerate(donors.tokens):
        for given in both:
            assert not any((given == prompt).all() for prompt in tokens[pair])
            assert (given == tokens).all(axis=-1).any()
    np.testing.assert_array_equal(donors.tokens, another_pair(pairs, seed=1).tokens)
    assert (donors.tokens != another_pair(pairs, seed=2).tokens).any()


def test_swapping_nothing_flips_nothing_even_where_the_model_is_wrong(small):
    """A random network is wrong on about half of the prompts; its answers stay what they are."""
    model, pairs = small
    swap = jax.jit(lambda m, p: interchange(model.network, model.params, m, p))
    assert swap(full_masks(model.config, 0.0), pairs) == 0


def test_the_audits_programs_give_what_the_plain_forward_pass_gives(small):
    """They cut what no answer needs; donors run with parameters of their own."""
    model, pairs = small
    network, params, rng = model.network, model.params, np.random.default_rng(1)
    masks = {site: rng.integers(0, 2, mask.shape) * mask for site, mask in full_masks(model.config).items()}
    means = {site: rng.normal(size=mask.shape).astype(np.float32) for site, mask in masks.items()}
    stacked = {site: mask[None] for site, mask in masks.items()}
    other, donors = jax.tree.map(lambda x: 0.5 * x, params), another_pair(pairs, seed=0)
    run = Interventions(network)
    given = jax.jit(lambda p: donated(network, p, tuple(masks), pairs.last, donors))(other)
    plain = jax.jit(lambda values: pair_difference(network, params, pairs, mix(masks, values)))
    for found, values in (
        (run.ablated(params, stacked, means, pairs), means),
        (run.swapped(params, stacked, donors, pairs, other), given),
    ):
        expected = plain(values)
        np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-5)
        assert np.ptp(expected) > 0.1

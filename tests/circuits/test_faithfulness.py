"""Interventions on planted networks, whose circuit is known to be the one the model uses."""

import jax
import jax.numpy as jnp
import pytest

from circuits_jax.circuits.ablation import full_masks, mean_activations
from circuits_jax.circuits.faithfulness import interchange, loss_without, outside
from circuits_jax.circuits.planted import DESIGNS, plant
from circuits_jax.model.transformer import Transformer


@pytest.fixture(scope="module", params=sorted(DESIGNS))
def case(request):
    """(model, params, means, the planted circuit's masks, held-out pairs)."""
    planted = plant(request.param, seed=3, heldout_pairs=32)
    model = Transformer(planted.config)
    means = mean_activations(model, planted.params, planted.corpus)
    masks = full_masks(planted.config, 0.0)
    for site, index in planted.nodes:
        masks[site][index] = 1
    pairs = planted.heldout
    return (
        model,
        planted.params,
        means,
        masks,
        tuple(map(jnp.asarray, (pairs.tokens, pairs.last, pairs.answers))),
    )


def test_without_its_circuit_the_model_fails(case):
    model, params, means, masks, pairs = case
    assert jax.jit(lambda m: loss_without(model, params, means, m, pairs))(masks) > 0.5


def test_without_the_nodes_outside_it_does_not(case):
    model, params, means, masks, pairs = case
    assert jax.jit(lambda m: loss_without(model, params, means, m, pairs))(outside(masks)) < 0.15


def test_the_answer_follows_the_circuit_and_not_the_rest(case):
    model, params, _, masks, pairs = case
    flipped = jax.jit(lambda m: interchange(model, params, m, pairs))
    assert flipped(masks) > 0.95
    assert flipped(outside(masks)) < 0.05
    assert flipped(full_masks(model.config, 0.0)) < 0.05

import dataclasses

import jax
import numpy as np
import pytest

from circuits_jax.circuits.ablation import mean_activations, reference_activations
from circuits_jax.circuits.prune import Pruner, drop, smallest
from circuits_jax.config import ConfigError, ModelConfig, PruneConfig
from circuits_jax.errors import TaskError
from circuits_jax.model.sites import node_sites
from circuits_jax.model.transformer import Transformer, init_params
from circuits_jax.tasks.task import Pairs

TINY = ModelConfig(n_layer=1, d_model=16, d_head=8, n_ctx=8, vocab_size=12, bigram=False)


class Probe:
    """A predicate that remembers what it was asked."""

    def __init__(self, holds):
        self.holds, self.asked = holds, []

    def __call__(self, thing):
        self.asked.append(thing)
        return self.holds(thing)


@pytest.mark.parametrize("threshold", [1, 2, 7, 40, 41, 999, 1000])
@pytest.mark.parametrize("start", [1, 40, 1000])
def test_smallest_finds_the_threshold_of_a_monotone_predicate(threshold, start):
    probe = Probe(lambda n: n >= threshold)
    assert smallest(probe, start, 1000) == threshold
    assert len(probe.asked) < 40


@pytest.mark.parametrize("seed", range(5))
def test_smallest_returns_what_holds_whatever_the_predicate(seed):
    rng = np.random.default_rng(seed)
    holding = rng.random(201) < 0.5
    holding[200] = True
    found = smallest(lambda n: bool(holding[n]), int(rng.integers(1, 201)), 200)
    assert holding[found]
    assert found == 1 or not holding[found - 1]


def test_smallest_finds_a_low_island_before_a_gap():
    assert smallest(lambda n: 30 <= n <= 64 or n >= 150, 160, 200) == 30


def test_smallest_with_nothing_that_holds_is_everything():
    assert smallest(lambda n: False, 10, 77) == 77


def test_smallest_never_asks_for_more_than_there_is():
    probe = Probe(lambda n: n >= 3)
    smallest(probe, 500, 4)
    assert all(1 <= n <= 4 for n in probe.asked)


def one_site(count):
    return {"a": np.ones(count, np.float32)}


def kept_of(masks):
    return set(np.flatnonzero(masks["a"]).tolist())


@pytest.mark.parametrize("seed", range(5))
def test_drop_leaves_exactly_the_needed_of_a_monotone_predicate(seed):
    needed = set(np.random.default_rng(seed).choice(64, 6, replace=False).tolist())
    probe = Probe(lambda masks: needed <= kept_of(masks))
    before = one_site(64)
    assert kept_of(drop(before, [("a", i) for i in range(64)], probe)) == needed
    assert len(probe.asked) < 64
    assert kept_of(before) == set(range(64))  # its argument stays as it was


def test_drop_touches_only_what_it_is_given():
    assert kept_of(drop(one_site(8), [("a", 1), ("a", 3)], lambda masks: True)) == {0, 2, 4, 5, 6, 7}
    assert kept_of(drop(one_site(8), [], lambda masks: False)) == set(range(8))


def test_drop_of_one_of_two_substitutes_keeps_the_other():
    found = drop(one_site(8), [("a", i) for i in range(8)], lambda masks: bool({2, 5} & kept_of(masks)))
    assert kept_of(found) in ({2}, {5})


@pytest.mark.parametrize("seed", range(5))
def test_what_drop_returns_holds_even_if_the_predicate_is_not_monotone(seed):
    weight = np.random.default_rng(seed).standard_normal(32)

    def holds(masks):
        return abs((weight * masks["a"]).sum() - weight.sum()) < 1

    found = drop(one_site(32), [("a", i) for i in range(32)], holds)
    assert holds(found) and len(kept_of(found)) < 32


def random_pairs(count=16):
    rng = np.random.default_rng(0)
    return Pairs(
        task="riddle",
        split="train",
        tokens=rng.integers(0, 12, (count, 2, 8)).astype(np.int32),
        last=np.full(count, 6, np.int32),
        answers=np.tile(np.array([3, 4], np.int32), (count, 1)),
        texts=[("a", "b")] * count,
        continuations=[("c", "d")] * count,
        survived=1.0,
    )


def one_device():
    return jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:1])


def test_a_model_that_knows_nothing_is_refused():
    model, params = Transformer(TINY), init_params(TINY, jax.random.key(0))
    means = {site: np.zeros(width, np.float32) for site, width in node_sites(TINY).items()}
    pruner = Pruner(model, params, means, PruneConfig(batch_pairs=8), one_device())
    with pytest.raises(TaskError) as caught:
        pruner.prune(random_pairs(), random_pairs())
    assert "riddle" in str(caught.value) and "0.593" in str(caught.value) and "\n" not in str(caught.value)


def test_attribution_is_the_first_order_change_of_the_loss():
    config = dataclasses.replace(TINY, activation_fraction=None)
    params = jax.tree.map(lambda x: 10 * x if x.ndim > 1 else x, init_params(config, jax.random.key(1)))
    model, pairs = Transformer(config), random_pairs()
    means = reference_activations(model, params, pairs.tokens, "mean")
    pruner = Pruner(model, params, means, PruneConfig(batch_pairs=8), one_device())
    data = (pairs.tokens, pairs.last, pairs.answers)
    kept = {site: np.ones(width, np.float32) for site, width in node_sites(config).items()}
    found = pruner.attribution(kept, data)

    def loss(masks):
        difference = np.asarray(pruner._masked_difference(params, masks, means, data), np.float64)
        return np.logaddexp(0, -difference * [1, -1]).mean()

    for site in kept:
        index = int(np.abs(found[site]).argmax())
        less = {**kept, site: kept[site].copy()}
        less[site][index] = 1 - 1e-2
        slope = (loss(less) - loss(kept)) / 1e-2
        assert found[site][index] == pytest.approx(slope, rel=0.05, abs=2e-4), site


def test_mean_activations_are_means_over_all_positions_of_all_batches():
    model, params = Transformer(TINY), init_params(TINY, jax.random.key(0))
    tokens = np.random.default_rng(0).integers(0, 12, (3, 2, 8)).astype(np.int32)
    means = mean_activations(model, params, tokens)
    _, records = model.apply(params, tokens.reshape(6, 8), record=tuple(means))
    assert set(means) == set(node_sites(TINY))
    for site, mean in means.items():
        np.testing.assert_allclose(mean, np.asarray(records[site]).reshape(48, -1).mean(0), atol=1e-6)


def test_references_are_means_or_zeros_and_nothing_else():
    model, params = Transformer(TINY), init_params(TINY, jax.random.key(0))
    tokens = np.zeros((1, 1, 4), np.int32)
    zeros = reference_activations(model, params, tokens, "zero")
    assert {site: x.shape for site, x in zeros.items()} == {s: (w,) for s, w in node_sites(TINY).items()}
    assert not any(np.asarray(x).any() for x in zeros.values())
    with pytest.raises(ConfigError, match="mean, zero"):
        reference_activations(model, params, tokens, "median")

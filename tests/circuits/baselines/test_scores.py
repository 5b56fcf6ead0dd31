"""Where the circuit is known its edges come first; ACDC in groups is ACDC edge by edge."""

import numpy as np
import pytest

from circuits_jax.circuits.baselines import METHODS, REFERENCES, EdgeScores, ScoreSettings, scores
from circuits_jax.circuits.baselines.acdc import acdc, two_way_kl
from circuits_jax.circuits.planted import DESIGNS
from circuits_jax.storage.errors import ConfigError
from tests.circuits.baselines.planted_edges import batch, network, planted

pytestmark = pytest.mark.computes

FEW = ScoreSettings(steps=3, thresholds=(0.003, 0.03))


def share_found(name, method, reference):
    """Of the first edges, as many as can be found, the share that was planted.

    An edge that carries the same on both prompts of a pair cannot be found by exchanging them.
    """
    found, pairs = scores(method, network(reference, name), batch("train", name), FEW), batch("train", name)
    count = len(planted(name).edges)
    if reference == "counterfactual":
        tokens = pairs.tokens.reshape(-1, pairs.tokens.shape[-1])
        carried = {a.site: a.site.replace("attn.v", "attn.y") for a, _ in planted(name).edges}
        _, records = planted(name).model.apply(tokens, record=tuple(carried.values()))
        value = {
            site: np.asarray(records[of]).reshape(*pairs.tokens.shape, -1) for site, of in carried.items()
        }
        apart = {site: np.abs(x[:, 0] - x[:, 1]).mean(axis=(0, 1)) for site, x in value.items()}
        count = sum(apart[a.site][a.index] > 1e-2 for a, _ in planted(name).edges)
        assert count > 0
    first = {found.edges.ends(i) for i in found.order()[:count]}
    return len(first & set(planted(name).edges)) / len(first)


@pytest.mark.slow
@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("method", ["attribution", "eap-ig", "acdc"])
@pytest.mark.parametrize("reference", REFERENCES)
def test_planted_edges_come_first(name, method, reference):
    assert share_found(name, method, reference) >= (1 if name == "quotes" else 0.9)


def test_a_random_order_finds_nothing_and_is_the_same_again():
    assert share_found("quotes", "random", "mean") < 0.2
    first, second = (scores("random", network("mean"), batch(), ScoreSettings(seed=7)) for _ in range(2))
    np.testing.assert_array_equal(first.values, second.values)


def test_scores_are_of_every_edge_by_its_ends():
    found = scores("random", network("mean"), batch())
    by_edge = found.by_edge()
    assert len(by_edge) == found.edges.count and set(planted().edges) <= set(by_edge)
    best = found.order()[0]
    assert by_edge[found.edges.ends(best)] == max(by_edge.values())
    tied = EdgeScores("random", found.edges, np.zeros(found.edges.count))
    np.testing.assert_array_equal(tied.order(), np.arange(found.edges.count))


def test_what_is_unknown_is_refused_in_a_line():
    with pytest.raises(ConfigError, match="the method is 'ioi'; choose one of attribution, eap-ig, acdc"):
        scores("ioi", network("mean"), batch())
    with pytest.raises(ConfigError, match="the cost of ACDC is 'l2'"):
        ScoreSettings(cost="l2")
    with pytest.raises(ConfigError, match="threshold"):
        ScoreSettings(thresholds=(0.1, 0.0))
    assert set(METHODS) == {"attribution", "eap-ig", "acdc", "random"}


class Additive:
    """A network whose logit difference is a sum over the edges kept, and how often it was asked."""

    def __init__(self, edges, worth):
        self.edges, self._worth, self.asked = edges, worth, 0

    def differences(self, kept, pairs):
        self.asked += len(kept)
        total = (np.asarray(kept) * self._worth).sum(axis=1)
        return total[:, None, None] * np.ones((1, pairs, 1)) * [1, -1]


@pytest.mark.parametrize("informed", [True, False])
def test_acdc_in_groups_removes_what_acdc_removes_one_by_one(informed):
    edges, rng = network("mean").edges, np.random.default_rng(0)
    worth = np.where(rng.random(edges.count) < 0.01, rng.uniform(0.02, 1, edges.count), 0)
    fake = Additive(edges, worth)
    likely = worth if informed else rng.random(edges.count)
    values = acdc(fake, 4, likely, (0.5, 0.1), "difference")
    np.testing.assert_array_equal(np.floor(values), (worth > 0.1).astype(int) + (worth > 0.5))
    assert fake.asked < edges.count / (4 if informed else 1.5)
    ranks = values - np.floor(values)
    np.testing.assert_array_equal(np.argsort(ranks), np.argsort(likely, kind="stable"))


def test_kl_of_two_answers_is_that_of_their_probabilities():
    rng = np.random.default_rng(0)
    model, circuit = rng.normal(0, 3, (2, 5, 2))
    p, q = 1 / (1 + np.exp(-model)), 1 / (1 + np.exp(-circuit))
    expected = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    np.testing.assert_allclose(two_way_kl(model, circuit), expected, rtol=1e-9, atol=1e-12)
    assert two_way_kl(np.array(900.0), np.array(-900.0)) == pytest.approx(900)
    assert two_way_kl(np.array(900.0), np.array(900.0)) == 0

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.edge_removal import edge_set
from circuits_jax.circuits.ablation.means import Subject, mean_activations
from circuits_jax.circuits.ablation.pairs import PairBatch, pair_difference
from circuits_jax.circuits.circuit import Calibration
from circuits_jax.circuits.masks import full_masks
from circuits_jax.circuits.planted import plant
from circuits_jax.circuits.pruning import importance
from circuits_jax.circuits.pruning.ablator import EDGES, Ablator
from circuits_jax.circuits.pruning.importance import correlation, deltas, measure_importance
from circuits_jax.config import PruneConfig
from circuits_jax.model.model import Model
from circuits_jax.model.taps import mix
from circuits_jax.storage import notices

pytestmark = pytest.mark.computes

PAIRS = 64  # two whole blocks of the prober
CALIBRATION, FULL = Calibration(1.2, -0.3), Calibration(0.9, 0.2)


@functools.cache
def case():
    """(planted network, ablator of its circuit, what the circuit keeps, its edges, pairs, means)."""
    planted = plant("quotes", 1, PAIRS, PAIRS, PAIRS)
    means = mean_activations(planted.model, planted.corpus[:1])
    edges = graph.edges_of(planted.config, planted.params, planted.nodes)
    places = edge_set(planted.config, planted.nodes, edges)
    ablator = Ablator(Subject(planted.model, means), places, PruneConfig())
    masks = full_masks(planted.config, 0.0)
    for site, index in planted.nodes:
        masks[site][index] = 1
    kept = np.zeros_like(ablator.whole[EDGES])
    kept[: len(edges)] = 1
    pairs = PairBatch(planted.train.tokens, planted.train.last, planted.train.answers)
    return planted, ablator, {**masks, EDGES: kept}, edges, pairs, means


@functools.cache
def measured():
    _, ablator, variant, _, pairs, _ = case()
    return measure_importance(ablator, (variant, CALIBRATION), FULL, pairs, sample=20, seed=3)


@functools.partial(jax.jit, static_argnames="network")
def difference(network, params, masks, means):
    pairs = PairBatch(*map(jnp.asarray, case()[4]))
    return pair_difference(network, params, pairs, tap=mix(masks, means))


def loss_of(params, masks, calibration, network=None):
    """Cross-entropy of the right answer, written out."""
    planted, *_, means = case()
    network = network or planted.model.network
    masks = {site: mask for site, mask in masks.items() if site != EDGES}
    d = np.asarray(difference(network, params, masks, means), np.float64)
    d = calibration.scale * d + calibration.shift
    p = 1 / (1 + np.exp(-d))
    return -0.5 * (np.log(p[:, 0]) + np.log(1 - p[:, 1])).mean()


def without(masks, node):
    site, index = node
    return {**masks, site: np.where(np.arange(len(masks[site])) == index, 0, masks[site])}


@pytest.mark.slow
def test_a_nodes_delta_is_the_rise_of_the_loss_when_it_is_held_at_its_mean():
    planted, _, variant, _, _, _ = case()
    base = loss_of(planted.params, variant, CALIBRATION)
    nodes = graph.nodes_of(planted.config, variant)
    assert len(measured().node_deltas) == len(nodes) == len(planted.nodes)
    for i in range(0, len(nodes), 3):
        expected = loss_of(planted.params, without(variant, nodes[i]), CALIBRATION) - base
        assert measured().node_deltas[i] == pytest.approx(expected, abs=1e-4)
    assert min(measured().node_deltas) > 0.05  # every planted node is needed


@pytest.mark.slow
def test_an_edges_delta_is_the_rise_of_the_loss_when_its_weight_carries_a_constant():
    planted, _, variant, edges, _, means = case()
    base = loss_of(planted.params, variant, CALIBRATION)
    layers = {"q": 0, "k": 1, "v": 2}
    checked = 0
    for edge, delta in zip(edges, measured().edge_deltas, strict=True):
        source, target = planted.nodes[edge.source], planted.nodes[edge.target]
        layer, half, place = target.site.split(".")
        name = "c_proj" if place == "resid_delta" else {"attn": "c_attn", "mlp": "c_fc"}[half]
        carried = np.asarray(means[source.site.replace("attn.v", "attn.y")])[source.index]
        params = jax.tree.map(np.copy, planted.params)
        weights = params[f"h_{layer}"][half][name]
        column = layers.get(place, 0) * planted.config.d_attn + target.index
        weights["kernel"][source.index, column] = 0
        weights["bias"][column] += edge.weight * carried
        assert delta == pytest.approx(loss_of(params, variant, CALIBRATION) - base, abs=1e-4)
        checked += delta > 0.05
    assert checked == len(edges)


def test_removing_nothing_more_costs_nothing():
    planted, ablator, variant, edges, pairs, _ = case()
    removed = next(
        node for node in graph.nodes_of(planted.config, ablator.whole) if node not in planted.nodes
    )
    assert not deltas(ablator, variant, [removed, (EDGES, len(edges))], pairs, CALIBRATION).any()


def test_attribution_is_the_slope_of_the_full_models_loss():
    planted, _, _, edges, pairs, means = case()
    # Without AbsTopK, whose choices make the loss jump.
    model = Model(dataclasses.replace(planted.config, activation_fraction=None), planted.params)
    places = edge_set(model.config, planted.nodes, edges)
    ablator = Ablator(Subject(model, means), places, PruneConfig())
    whole = ablator.whole
    found = ablator.attributions(whole, pairs, FULL)
    assert {site: len(values) for site, values in found.items()} == {
        site: len(mask) for site, mask in whole.items()
    }
    base = loss_of(planted.params, whole, FULL, model.network)
    for site, index in planted.nodes[::2]:
        less = {**whole, site: whole[site].copy()}
        less[site][index] = 1 - 1e-2
        slope = (loss_of(planted.params, less, FULL, model.network) - base) / 1e-2
        assert found[site][index] == pytest.approx(slope, rel=0.1, abs=1e-3), (site, index)


@pytest.mark.slow
def test_exact_deltas_of_the_full_model_are_of_a_sample_half_of_which_is_the_circuits():
    planted, ablator, *_ = case()
    found = measured()
    chosen = {
        (site, int(i)) for site, values in found.exact.items() for i in np.flatnonzero(np.isfinite(values))
    }
    inside = chosen & {tuple(node) for node in planted.nodes}
    assert len(chosen) == 20 and len(inside) == 10
    base = loss_of(planted.params, ablator.whole, FULL)
    for node in [*sorted(inside)[:2], *sorted(chosen - inside)[:2]]:
        expected = loss_of(planted.params, without(ablator.whole, node), FULL) - base
        assert found.exact[node[0]][node[1]] == pytest.approx(expected, abs=1e-4)
    pairs = [(found.attribution[site][i], found.exact[site][i]) for site, i in chosen]
    assert found.correlation["nodes"] == 20
    assert found.correlation["pearson"] == pytest.approx(scipy.stats.pearsonr(*zip(*pairs, strict=True))[0])
    assert found.correlation["spearman"] == pytest.approx(scipy.stats.spearmanr(*zip(*pairs, strict=True))[0])
    assert found.pairs == PAIRS


@pytest.mark.slow
def test_a_sample_of_none_has_no_correlation():
    _, ablator, variant, _, pairs, _ = case()
    found = measure_importance(ablator, (variant, CALIBRATION), FULL, pairs, sample=0, seed=0)
    assert found.correlation == {"nodes": 0}
    assert all(np.isnan(values).all() for values in found.exact.values())


@pytest.mark.parametrize("seed", range(3))
def test_correlation_is_scipys(seed):
    rng = np.random.default_rng(seed)
    estimates = rng.integers(0, 5, 30).astype(float)  # with ties
    exact = estimates**3 + rng.standard_normal(30)
    found = correlation(estimates, exact)
    assert found["pearson"] == pytest.approx(scipy.stats.pearsonr(estimates, exact)[0])
    assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(estimates, exact)[0])


def test_correlation_with_a_constant_is_undefined():
    assert correlation(np.zeros(3), np.arange(3.0)) == {"nodes": 3}
    assert correlation(np.arange(1.0), np.arange(1.0)) == {"nodes": 1}


def test_a_circuit_of_too_many_parts_is_not_weighed_and_that_is_told(monkeypatch, capsys):
    planted, ablator, variant, edges, pairs, _ = case()
    monkeypatch.setattr(importance, "MOST_WEIGHED", len(planted.nodes) + len(edges) - 1)
    assert measure_importance(ablator, (variant, CALIBRATION), FULL, pairs, sample=0, seed=0) is None
    notices.tell()
    assert f"{len(planted.nodes)} nodes and {len(edges)} edges" in capsys.readouterr().err

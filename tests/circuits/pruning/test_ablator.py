"""Removed parts that take their values from another prompt, in the engine and by hand."""

import functools

import jax
import numpy as np
import pytest

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.donors import (
    DonatedPairs,
    another_pair,
    donated,
    other_prompt,
    pairs_under,
)
from circuits_jax.circuits.ablation.edge_removal import edge_set
from circuits_jax.circuits.ablation.means import Subject, reference_sites
from circuits_jax.circuits.ablation.pairs import pair_batch, pair_difference
from circuits_jax.circuits.circuit import Calibration
from circuits_jax.circuits.masks import full_masks
from circuits_jax.circuits.planted import plant
from circuits_jax.circuits.pruning import compaction
from circuits_jax.circuits.pruning.ablator import EDGES, Ablator
from circuits_jax.config import ModelConfig, PruneConfig
from circuits_jax.model.taps import mix
from circuits_jax.storage.errors import ConfigError
from tests.circuits.pruning.test_compaction import batch, random_masks, random_model
from tests.quick import quick_cases

pytestmark = pytest.mark.computes

OPTIONS = {"sinks and AbsTopK": {}, "positions joined": {"position": "concat", "d_pos": 5}}
options = pytest.mark.parametrize("change", quick_cases(OPTIONS, ["sinks and AbsTopK"]))
FINAL = True


@functools.cache
def case(position):
    """(Ablator of a random network with all its edges, its nodes, its edges)."""
    model = random_model(dict(position))
    widths = reference_sites(model.config, FINAL)
    means = {site: np.zeros(width, np.float32) for site, width in widths.items()}
    nodes = graph.nodes_of(model.config, full_masks(model.config))
    edges = graph.edges_of(model.config, jax.tree.map(np.asarray, model.params), nodes)
    return Ablator(Subject(model, means), edge_set(model.config, nodes, edges), PruneConfig()), nodes, edges


@pytest.mark.parametrize(
    "change", quick_cases(OPTIONS | {"no sinks": {"attention_sink": False}}, ["sinks and AbsTopK"])
)
def test_nodes_that_no_variant_keeps_are_cut_away_and_nothing_else_changes(change, monkeypatch):
    """Differences and slopes are those of the whole network, also where removed edges carry their means."""
    monkeypatch.setattr(compaction, "EVEN", (8,))
    monkeypatch.setattr(compaction, "COMPILATION", 0)
    monkeypatch.setattr(compaction, "WORTH", 1)
    model, rng = random_model(change), np.random.default_rng(7)
    means = {
        site: rng.normal(size=width).astype(np.float32)
        for site, width in reference_sites(model.config, FINAL).items()
    }
    envelope = random_masks(model.config, 0.15, final=FINAL)
    nodes = graph.nodes_of(model.config, envelope)
    edges = graph.edges_of(model.config, jax.tree.map(np.asarray, model.params), nodes)
    subject, places = Subject(model, means), edge_set(model.config, nodes, edges)
    whole, cut = Ablator(subject, places, PruneConfig()), Ablator(subject, places, PruneConfig(), envelope)
    assert whole.folded.cut == () and cut.folded.cut != ()
    kernels = {layer: cut.folded.cut.layers[layer]["kernel"].shape[0] for layer in cut.folded.cut.layers}
    assert max(kernels.values()) <= 8 + model.config.heads
    kept = whole.whole[EDGES].copy()
    kept[: len(edges)] = rng.random(len(edges)) < 0.5
    fewer = {site: mask * (rng.random(len(mask)) < 0.8) for site, mask in envelope.items()}
    variants, pairs = [{**masks, EDGES: kept} for masks in (envelope, fewer)], batch(pairs=8)
    expected = whole.differences(variants, pairs)
    np.testing.assert_allclose(cut.differences(variants, pairs), expected, atol=1e-4)
    assert np.abs(expected[0] - whole.differences([whole.whole], pairs)[0]).max() > 0.1
    calibration = Calibration(0.5, 0.1)
    ours, theirs = (each.attributions(variants[0], pairs, calibration) for each in (cut, whole))
    np.testing.assert_allclose(ours[EDGES][: len(edges)], theirs[EDGES][: len(edges)], atol=1e-4)
    assert np.abs(theirs[EDGES][: len(edges)]).max() > 1e-3


def test_they_are_not_where_a_program_for_it_would_cost_more_or_no_bias_stands_for_them():
    config = ModelConfig(n_layer=2, d_model=256, n_ctx=8, vocab_size=20)
    few = {site: np.arange(len(mask)) < 4 for site, mask in full_masks(config).items()}
    assert set(compaction.even_room(config, few, judged=10**6).values()) == {16}
    assert compaction.even_room(config, few, judged=1) is None
    some = few | {"0.mlp.post_act": np.arange(1024) < 60}
    assert set(compaction.even_room(config, some, judged=10**6).values()) == {64}
    assert compaction.even_room(config, few | {"0.mlp.post_act": np.ones(1024)}, judged=10**6) is None
    means = {site: np.zeros(w, np.float32) for site, w in reference_sites(config, FINAL).items()}
    assert not compaction.can_cut("counterfactual", means)
    assert not compaction.can_cut("mean", means | {"0.attn.q": np.zeros((8, 256), np.float32)})
    assert compaction.can_cut("mean", means) and compaction.can_cut("zero", means)


def pairs_with_donors(kind):
    pairs = batch(pairs=8)
    donors = other_prompt(pairs) if kind == "counterfactual" else another_pair(pairs, seed=2)
    return DonatedPairs(*pairs, donors)


@functools.partial(jax.jit, static_argnames="network")
def by_hand(network, params, masks, pairs):
    """With the ordinary forward pass, at all positions of all layers."""
    given = donated(network, params, tuple(masks), pairs.last, pairs.donors)
    return pair_difference(network, params, pairs, mix(masks, given))


@options
@pytest.mark.parametrize("kind", ["counterfactual", "resample"])
def test_removed_nodes_take_their_donors_values(change, kind):
    ablator, _, _ = case(tuple(change.items()))
    masks, pairs = random_masks(ablator.network.config, 0.5, final=FINAL), pairs_with_donors(kind)
    (found,) = ablator.differences([{**masks, EDGES: ablator.whole[EDGES]}], pairs)
    params = ablator.folded.params
    np.testing.assert_allclose(found, by_hand(ablator.network, params, masks, pairs), atol=2e-4)
    (whole,) = ablator.differences([ablator.whole], pairs)
    assert np.abs(found - whole).max() > 0.1
    np.testing.assert_allclose(whole, pair_difference(ablator.network, params, pairs), atol=2e-4)


@options
def test_without_all_edges_out_of_a_node_it_has_its_donors_value(change):
    ablator, nodes, edges = case(tuple(change.items()))
    pairs, network = pairs_with_donors("counterfactual"), ablator.network
    sources = [nodes[edge.source] for edge in edges]
    for site in ("0.attn.act_in", "0.attn.v", "0.mlp.post_act", "1.attn.v", "1.mlp.act_in", "1.mlp.post_act"):
        gone = sorted({source for source in sources if source.site == site})[::2]
        kept = ablator.whole[EDGES].copy()
        kept[: len(edges)] = [source not in gone for source in sources]
        masks = {s: np.ones(w, np.float32) for s, w in reference_sites(network.config).items()}
        masks[site.replace("attn.v", "attn.y")][[node.index for node in gone]] = 0
        (found,) = ablator.differences([{**ablator.whole, EDGES: kept}], pairs)
        expected = by_hand(network, ablator.folded.params, masks, pairs)
        np.testing.assert_allclose(found, expected, atol=2e-4, err_msg=site)


@pytest.mark.slow
def test_its_slopes_and_its_mean_ablation_are_those_of_plain_pairs_where_the_donor_is_the_prompt_itself():
    ablator, _, _ = case(())
    pairs = batch(pairs=8)
    own = DonatedPairs(*pairs, other_prompt(pairs)._replace(tokens=pairs.tokens))
    masks = {**random_masks(ablator.network.config, 0.5, final=FINAL), EDGES: ablator.whole[EDGES]}
    (found,), (whole,) = ablator.differences([masks], own), ablator.differences([ablator.whole], pairs)
    np.testing.assert_allclose(found, whole, atol=2e-4)
    slopes = ablator.attributions(masks, own, Calibration(1.0, 0.0))
    assert max(np.abs(slope).max() for slope in slopes.values()) < 1e-4  # a removal changes nothing


def test_pairs_carry_donors_where_the_ablation_needs_them():
    splits = plant("quotes", 0, 8, 8, 8).splits
    for kind in ("mean", "zero"):
        plain = pairs_under(kind, splits, 16, 0)[1]
        np.testing.assert_array_equal(plain.tokens, pair_batch(splits[1], 16).tokens)
    counterfactual = pairs_under("counterfactual", splits, 16, 0)
    for each in counterfactual:
        np.testing.assert_array_equal(each.donors.tokens, each.tokens[:, ::-1])
        assert each.first(3).donors.last.shape == (3, 2) and each.size == 8
    first, again, other = (pairs_under("resample", splits, 16, seed) for seed in (0, 0, 1))
    for mine, same, new in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(mine.donors.tokens, same.donors.tokens)
        assert (mine.donors.tokens != new.donors.tokens).any()
    with pytest.raises(ConfigError, match="prune.ablation"):
        pairs_under("median", splits, 16, 0)

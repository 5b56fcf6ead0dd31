"""What the audit is made of, each against something known."""

import dataclasses
import functools
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.circuits.ablation import competition
from circuits_jax.circuits.ablation.means import mean_activations
from circuits_jax.circuits.audit import random_circuits
from circuits_jax.circuits.audit.against_others import curves_and_tests
from circuits_jax.circuits.audit.auditor import _templates_of
from circuits_jax.circuits.audit.intervals import Figure, pair_accuracies, pair_flips, pair_losses
from circuits_jax.circuits.audit.real_code import find_natural, opening_quotes
from circuits_jax.circuits.audit.records import was_compared
from circuits_jax.circuits.audit.verdict import (
    FAITHFUL,
    NO_BETTER,
    NOT_RUN,
    NOT_SHOWN,
    Criterion,
    Measurements,
    decide,
)
from circuits_jax.circuits.baselines import edge_network
from circuits_jax.circuits.masks import full_masks
from circuits_jax.circuits.planted import plant
from circuits_jax.config import TOPK_LOCATIONS, AuditConfig, ModelConfig, control_choice
from circuits_jax.model.model import Model
from circuits_jax.model.sites import node_sites
from circuits_jax.model.transformer import init_params
from circuits_jax.storage.errors import ConfigError, TaskError
from circuits_jax.tasks.metrics import loss_of_difference
from circuits_jax.tasks.task import Pairs

TINY = ModelConfig(n_layer=2, d_model=16, d_head=8, n_ctx=8, vocab_size=12, activation_fraction=0.5)
SMALL = ModelConfig(n_layer=1, d_model=8, d_head=8, n_ctx=8, vocab_size=12, bigram=False)


# What a model may be too large for.


def test_of_a_model_with_too_many_edges_it_is_said_that_nothing_was_compared(monkeypatch):
    """The searches of the controls take hours there; what comes after them must not fail."""
    monkeypatch.setattr(edge_network, "MOST_EDGES", 9)
    model = Model(TINY, init_params(TINY, jax.random.key(0)))
    auditor = types.SimpleNamespace(config=AuditConfig(), run=None, model=model)
    found = curves_and_tests(auditor, None, None, None, True, None)
    assert found["curves"] is found["tests"] is None and "from 1 to 9" in found["not_compared"]
    assert was_compared(found) and not was_compared(found | {"not_compared": None})
    assert was_compared({"curves": {}}) and not was_compared({})


# Figures.


def test_scores_of_pairs_are_the_tasks_metrics():
    difference = np.random.default_rng(0).standard_normal((3, 7, 2))
    losses = pair_losses(difference, np.array([2.0, 1.0, 0.5]), np.array([0.0, -1.0, 1.0]))
    for i, (scale, shift) in enumerate(((2.0, 0.0), (1.0, -1.0), (0.5, 1.0))):
        expected = loss_of_difference(jnp.asarray(scale * difference[i] + shift))
        assert losses[i].mean() == pytest.approx(float(expected), abs=1e-6)
    right = np.array([[[1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [0.0, 0.0]]])
    np.testing.assert_array_equal(pair_accuracies(right), [[1, 0.5, 0, 0]])
    np.testing.assert_array_equal(pair_flips(right, -right)[0, :3], [1, 1, 1])
    assert not pair_flips(right, 3 * right).any()


@pytest.mark.parametrize("split", ["train", "test"])
def test_pairs_of_one_template_are_refused_by_their_split(split):
    tokens = np.zeros((4, 2, 3), np.int32)
    pairs = Pairs("mine", split, tokens, np.full(4, 2), np.tile([1, 2], (4, 1)), [("a", "b")] * 4, 1.0)
    with pytest.raises(TaskError, match=f"the {split} pairs of mine are all of one template"):
        _templates_of(pairs)
    several = dataclasses.replace(pairs, template=np.array([0, 0, 1, 1]))
    assert _templates_of(several) is several.template


# Baselines.


def test_random_circuits_have_the_size_asked_for_and_prefer_live_nodes():
    live = {"a": np.array([1, 1, 0, 0, 1], np.float32), "b": np.array([0, 1, 1], np.float32)}
    masks = random_circuits.draw_circuits(live, 3, 50, 0)
    flat = np.concatenate([masks["a"], masks["b"]], axis=1)
    assert (flat.sum(axis=1) == 3).all()
    assert not (flat * (1 - np.concatenate(list(live.values())))).any()
    assert len(np.unique(flat, axis=0)) > 5
    seven = random_circuits.draw_circuits(live, 7, 1, 0)  # more than are live
    assert sum(mask.sum() for mask in seven.values()) == 7


def test_matched_circuits_have_the_circuits_size_at_every_site():
    live = {"a": np.ones(6, np.float32), "b": np.array([1, 0, 0, 0], np.float32)}
    circuit = {"a": np.eye(6, dtype=np.float32)[:4].sum(0), "b": np.array([0, 1, 1, 0], np.float32)}
    masks = random_circuits.draw_matched(live, circuit, 20, 0)
    assert (masks["a"].sum(axis=1) == 4).all() and (masks["b"].sum(axis=1) == 2).all()
    assert masks["b"][:, 0].all()


def test_random_parts_are_parts_from_one_node_to_half():
    circuit = {"a": np.array([1, 0, 1, 1, 1], np.float32), "b": np.array([0, 1, 1, 1, 1], np.float32)}
    parts = random_circuits.draw_parts(circuit, 6, 0)
    sizes = sum(part.sum(axis=1) for part in parts.values())
    assert sizes.tolist() == sorted(sizes.tolist()) and (sizes[0], sizes[-1]) == (1, 4)
    assert all((parts[site] <= circuit[site]).all() for site in parts)


def test_overlap_is_what_is_in_both_of_what_is_in_either():
    circuit = {"a": np.array([1, 1, 0, 0]), "b": np.array([1])}
    other = {"a": np.array([[1, 0, 1, 0], [1, 1, 0, 0]]), "b": np.array([[0], [1]])}
    np.testing.assert_allclose(random_circuits.overlaps(other, circuit), [1 / 4, 1])


def test_live_nodes_hold_the_planted_ones_and_not_all_others():
    planted = plant("quotes", 1, 8, 8, 8)
    live = random_circuits.live_nodes(planted.config, planted.params, np.unique(planted.train.answers))
    assert all(live[node.site][node.index] for node in planted.nodes)
    share = np.mean(np.concatenate(list(live.values())))
    assert 0.2 < share < 0.9, share


# AbsTopK's competitors.


@functools.partial(jax.jit, static_argnums=0)
def logits(network, params, tokens, entry=None):
    """Of the network, or with `entry` of the one without AbsTopK with all nodes kept."""
    tap = None
    if entry is not None:
        tap = competition.constant_competitors(network.config, full_masks(network.config), entry, entry)
        network = competition.without_topk(network)
    return network.apply(params, tokens, tap=tap)[0]


def loud_model(config, seed):
    """Initial parameters, larger, so that what AbsTopK drops matters."""
    params = jax.jit(init_params, static_argnums=0)(config, jax.random.key(seed))
    return Model(config, jax.tree.map(lambda x: 5 * x, params))


@pytest.mark.parametrize("locations", [TOPK_LOCATIONS, ("mlp_in", "resid_post_attn")])
def test_with_all_nodes_kept_the_model_without_topk_is_the_model(locations):
    model = loud_model(dataclasses.replace(TINY, activation_locations=locations), 0)
    network, params = model.network, model.params
    tokens = np.random.default_rng(0).integers(0, 12, (4, 8))
    zeros = {site: jnp.zeros(width) for site, width in node_sites(TINY).items()}
    expected = logits(network, params, tokens)
    np.testing.assert_allclose(logits(network, params, tokens, zeros), expected, atol=1e-6)
    without = logits(competition.without_topk(network), params, tokens)
    assert float(jnp.abs(without - expected).max()) > 1e-3


def test_a_removed_node_competes_with_its_constant_and_is_held_at_its_mean():
    config = dataclasses.replace(TINY, activation_locations=("attn_in",))
    masks = full_masks(config)
    masks["0.attn.act_in"][3:] = 0
    zeros = {site: jnp.zeros(width) for site, width in node_sites(config).items()}
    x = jnp.arange(1.0, 17.0).reshape(1, 1, 16)

    def found(entry):
        means = {**zeros, "0.attn.act_in": jnp.full(16, 7.0)}
        tap = competition.constant_competitors(config, masks, {**zeros, "0.attn.act_in": entry}, means)
        return np.asarray(tap("0.attn.act_in", x))[0, 0]

    # Eight of sixteen pass: three weak nodes against thirteen constants, which win or lose by their entry.
    np.testing.assert_array_equal(found(jnp.full(16, 0.5)), [1, 2, 3] + [7] * 13)
    np.testing.assert_array_equal(found(jnp.full(16, 50.0)), [0, 0, 0] + [7] * 13)
    np.testing.assert_array_equal(found(jnp.full(16, 2.5).at[9:].set(0)), [0, 2, 3] + [7] * 13)


def test_entry_means_are_those_of_the_model_before_the_cut():
    """Where AbsTopK acts at one place only, all before it is as without, and what it passes is less."""
    model = loud_model(dataclasses.replace(TINY, activation_locations=("mlp_neuron",)), 1)
    batches = np.random.default_rng(0).integers(0, 12, (2, 3, 8))
    entry = competition.entry_means(model, batches)
    without_topk = Model(competition.without_topk(model.network).config, model.params)
    open_means = mean_activations(without_topk, batches)
    means = mean_activations(model, batches)
    for site in node_sites(TINY):
        same = open_means if site == "0.mlp.post_act" else means
        if site != "1.mlp.post_act":
            np.testing.assert_allclose(entry[site], same[site], atol=1e-6)
    assert float(jnp.abs(entry["0.mlp.post_act"] - means["0.mlp.post_act"]).max()) > 1e-3


# Verdict.

GOOD = {"sufficiency": 0.1, "necessity": 0.6, "flips_inside": 0.9, "flips_outside": 0.1}


def criterion(name, passed):
    return Criterion(name, None, 0.0, True, passed, True)


def measurements(changes=None, another=True, smaller=(True,), beaten=False, full=True, width=0.01):
    figures = {
        name: Figure(value, value - width, value + width) for name, value in (GOOD | (changes or {})).items()
    }
    kinds = tuple(criterion(f"smaller {i}", passed) for i, passed in enumerate(smaller))
    return Measurements(
        **figures,
        another_misses=criterion("another misses", another),
        smaller=kinds,
        beaten=beaten,
        full=full,
    )


@pytest.mark.parametrize(
    ("found", "verdict", "failed"),
    [
        ({}, FAITHFUL, ()),
        ({"smaller": (True, False), "beaten": True}, NO_BETTER, ("smaller 1",)),
        ({"smaller": (None, False), "full": False}, NOT_SHOWN, ("smaller 1",)),  # by few draws
        ({"smaller": (True, None), "full": False}, NOT_RUN, ()),
        ({"another": None, "smaller": (None,), "full": False}, NOT_RUN, ()),
        ({"smaller": (True, None)}, NOT_SHOWN, ("smaller 1",)),  # all draws of a kind were thrown away
        ({"another": False}, NOT_SHOWN, ("another misses",)),
        ({"another": False, "smaller": (False,), "beaten": True}, NO_BETTER, ("another misses", "smaller 0")),
        ({"changes": {"sufficiency": 0.16}}, NOT_SHOWN, ("sufficient",)),
        ({"changes": {"necessity": 0.49}}, NOT_SHOWN, ("necessary",)),
        ({"changes": {"flips_inside": 0.79}}, NOT_SHOWN, ("the answer follows the circuit",)),
        ({"changes": {"flips_outside": 0.21}}, NOT_SHOWN, ("the answer ignores the rest",)),
        ({"changes": {"sufficiency": math.nan}}, NOT_SHOWN, ("sufficient",)),
    ],
)
def test_the_verdict(found, verdict, failed):
    decided = decide(AuditConfig(), measurements(**found))
    assert (decided.verdict, decided.failed) == (verdict, failed)


def test_a_bound_inside_the_interval_is_not_clear():
    found = decide(AuditConfig(), measurements(width=0.06))
    assert [criterion.clear for criterion in found.criteria[:4]] == [False, True, True, True]
    assert found.close == ("sufficient",)


def test_settings_that_cannot_be_used_are_refused():
    for field, value in (
        *(("pairs", 7), ("draws", 0), ("confidence", 1.5), ("seeds", -1), ("sufficient", 0)),
        *(("control_draws", 2), ("relabelled_draws", 2)),
    ):
        with pytest.raises(ConfigError, match=f"audit.{field}"):
            AuditConfig(**{field: value})


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("none", "none"),
        ("quick", "quick"),
        ("full", "full"),
        (False, "none"),
        (True, "quick"),
        ("false", "none"),
        ("true", "quick"),
    ],
)
def test_choices_of_controls_by_their_old_names_too(given, meant):
    assert control_choice(given) == meant


@pytest.mark.parametrize("given", ["fast", "", "0", None, 2])
def test_an_unknown_choice_of_controls_is_refused_with_those_there_are(given):
    with pytest.raises(ConfigError, match="choose one of none, quick, full") as refused:
        control_choice(given)
    assert "\n" not in str(refused.value)


# Natural positions.


class Letters:
    """A tokenizer of single characters and triple quotes."""

    _PIECES = ("<eot>", '"""', "'''", *map(chr, range(9, 127)))
    eot, vocab_size = 0, len(_PIECES)

    def encode(self, text):
        ids = []
        while text:
            size = 3 if text[:3] in self._PIECES[1:3] else 1
            ids.append(self._PIECES.index(text[:size]))
            text = text[size:]
        return ids

    def pieces(self, ids):
        return [self._PIECES[i] for i in ids]


@pytest.mark.parametrize(
    ("text", "closing"),
    [
        ("a = 'b'", [(4, 6)]),
        ("f(\"it's\", '\"')", [(2, 7), (10, 12)]),
        (r"'a\'b'", [(0, 5)]),
        (r"'a\\' + 'b'", [(0, 4), (8, 10)]),
        ("# don't\nx = ''", [(12, 13)]),
        ("'#' # '", [(0, 2)]),
        ("'unended\n''", [(9, 10)]),
    ],
)
def test_closing_quotes_are_told_from_all_others(text, closing):
    tokens = Letters().encode(text)
    assert len(tokens) == len(text)
    opened = opening_quotes(np.array(tokens), Letters())
    assert [(int(opened[i]), int(i)) for i in np.flatnonzero(opened >= 0)] == closing


def test_a_quote_in_a_docstring_is_text_and_end_of_text_ends_all():
    letters = Letters()
    docstring = letters.encode('"""it\'s "so"\n""" + \'a\'')
    opened = opening_quotes(np.array(docstring), letters)
    assert np.flatnonzero(opened >= 0).tolist() == [11, len(docstring) - 1]
    cut = np.array([*letters.encode('"""a'), 0, *letters.encode("'b'")])
    assert np.flatnonzero(opening_quotes(cut, letters) >= 0).tolist() == [5]


def pairs_of(answers, count=4):
    blank = np.zeros((count, 2, 4), np.int32)
    answers = np.asarray(answers, np.int32)
    return Pairs("t", "test", blank, np.full(count, 3), answers, [("a", "b")] * count, 1.0)


def test_natural_positions_of_quotes_close_strings_of_their_own_window():
    letters = Letters()
    text = "ab='cd';" + "'efghij" + "kl';xyz="  # the last string begins in another window than it ends
    windows = np.array(letters.encode(text + "0" * 9)).reshape(2, 16)
    answers = [letters.encode("\"'")] * 4
    found = find_natural(pairs_of(answers), letters, windows, 10, 2, 0)
    assert (found.found, found.at.tolist(), found.second.tolist()) == (1, [5], [True])
    np.testing.assert_array_equal(found.tokens[0], windows[0, :-1])


def test_other_natural_positions_follow_a_token_that_either_answer_follows():
    windows = np.array([[5, 1, 5, 2, 6, 1, 6, 1, 7, 2, 5, 1]])
    found = find_natural(pairs_of([[1, 2]] * 4), Letters(), windows, 10, 0, 0)
    assert found.at.tolist() == [0, 2, 10] and found.second.tolist() == [False, True, False]
    assert find_natural(pairs_of([[1, 2]] * 4), Letters(), windows, 10, 3, 0).at.tolist() == [10]
    capped = find_natural(pairs_of([[1, 2]] * 4), Letters(), windows, 2, 0, 0)
    assert (capped.found, len(capped.at)) == (3, 2)


def test_without_natural_positions_there_is_a_reason():
    windows = np.array([[5, 1, 5, 1, 6, 2, 6]])
    with pytest.raises(TaskError, match="no position"):
        find_natural(pairs_of([[1, 2]] * 4), Letters(), windows, 10, 0, 0)
    with pytest.raises(TaskError, match="vary from pair to pair"):
        find_natural(pairs_of([[1, 2], [3, 4], [5, 6], [7, 8]]), Letters(), windows, 10, 0, 0)

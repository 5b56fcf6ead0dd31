"""Readings in hand-wired networks, where it is known on which tokens an edge fires."""

import functools

import numpy as np
import pytest

from circuits_jax.circuits.ablation.means import reference_activations
from circuits_jax.circuits.ablation.pairs import PairBatch, pair_batches
from circuits_jax.circuits.planted import DESIGNS, plant
from circuits_jax.circuits.readings import measure
from circuits_jax.circuits.readings.measure import EdgeReader
from circuits_jax.circuits.readings.records import show_rows
from circuits_jax.circuits.readings.rules import Words, selected_ids
from circuits_jax.config import ReadingsConfig
from circuits_jax.storage.errors import ConfigError
from tests.circuits.readings.circuits import circuit_of
from tests.circuits.readings.test_rules import CIRCUIT

pytestmark = pytest.mark.computes

PAIRS = 32
CONFIG = ReadingsConfig(pairs=PAIRS, choose_pairs=32, draws=10)
OPENERS = ('open"', "open'")
DISTRACTORS = ('double"', "single'", "double(", "single(")


class Named:
    """The planted vocabulary as far as readings ask of a tokenizer."""

    eot, hash = 0, ""

    def __init__(self, name, size):
        design = DESIGNS[name]
        special = dict.fromkeys(["<eot>", *design.tokens, *design.answers])
        self.tokens = [*special, *(f"word{i}" for i in range(size - len(special)))]
        self.vocab_size = size

    def pieces(self, ids):
        return [self.tokens[i] for i in ids]

    def encode(self, text):
        return [self.tokens.index(word) for word in text.split()]


@functools.cache
def planted(name):
    """(reader of the planted circuit's edges, its circuit, its tokens, its pairs)."""
    network = plant(name, 0, PAIRS, 8, PAIRS)
    model = network.model
    means = reference_activations(model, network.corpus, "mean")
    train, test = pair_batches([network.train, network.test], network.config.n_ctx)
    circuit = circuit_of(model, means, network.nodes)
    words = Named(name, network.config.vocab_size)
    reader = EdgeReader(circuit, model, Words(words, words.vocab_size), (train, test), CONFIG)
    return reader, circuit, words, test


def edges_from(name, site):
    """Places of the edges out of a site."""
    _, circuit, _, _ = planted(name)
    return [i for i, edge in enumerate(circuit.edges) if circuit.nodes[edge.source].site == site]


@functools.cache
def detector():
    """The edges of the neuron that fires on opening quotes: two into it, and the one out of it to the key."""
    _, circuit, _, _ = planted("quotes")
    into = edges_from("quotes", "0.mlp.act_in")
    neurons = [circuit.edges[i].target for i in into]
    neuron = max(set(neurons), key=neurons.count)
    (out,) = (i for i, edge in enumerate(circuit.edges) if edge.source == neuron)
    return [i for i in into if circuit.edges[i].target == neuron], out


def read(edge, *tokens):
    reader, _, words, _ = planted("quotes")
    return reader.read(edge, {edge: [words.tokens.index(token) for token in tokens]})


@pytest.mark.slow
def test_the_tokens_that_fire_an_edge_pass():
    into, out = detector()
    assert len(into) == 2
    for edge in (*into, out):
        row = read(edge, *OPENERS)
        assert row["passes"] and row["recovery"] > 0.95 and row["inverse"] < 0.2, row
        assert row["random"] < row["score"] and 0.03 < row["coverage"] < 0.1
        assert row["random_coverage"] == pytest.approx(row["coverage"], rel=0.3)
        assert row["tokens"] == list(OPENERS) and row["rule"] == "given"


@pytest.mark.slow
def test_a_wrong_set_fails():
    _, out = detector()
    for tokens in (DISTRACTORS, ("close?",), OPENERS[1:]):  # single quotes are what is said without a sign
        row = read(out, *tokens)
        assert not row["passes"] and row["recovery"] < 0.2, row


@pytest.mark.slow
def test_the_complement_keeps_the_effect_by_its_inverse():
    reader, _, words, _ = planted("quotes")
    _, out = detector()
    right = [words.tokens.index(token) for token in OPENERS]
    rest = [i for i in range(words.vocab_size) if i not in right]
    row, other = reader.read(out, {out: rest}), reader.read(out, {out: right})
    assert not row["passes"] and row["inverse"] > 0.95 and row["recovery"] < 0.2
    assert row["inverse"] == pytest.approx(other["recovery"], abs=1e-4)
    assert row["recovery"] == pytest.approx(other["inverse"], abs=1e-4)
    assert row["coverage"] == pytest.approx(1 - other["coverage"])


@pytest.mark.slow
def test_everything_recovers_all_and_covers_too_much():
    reader, _, words, _ = planted("quotes")
    _, out = detector()
    row = reader.read(out, {out: range(words.vocab_size)})
    assert row["recovery"] == pytest.approx(1) and row["inverse"] == pytest.approx(0)
    assert row["coverage"] == 1 and not row["passes"] and row["random"] is None


@pytest.mark.slow
def test_by_default_the_tokens_that_fire_it_are_found_on_training_pairs():
    reader, _, _, _ = planted("quotes")
    _, out = detector()
    row = reader.read(out)
    assert row["passes"] and row["rule"] == "default" and set(row["tokens"]) <= set(OPENERS), row
    (value,) = edges_from("quotes", "1.attn.v")  # it acts at the last token, which is always the same
    assert reader.read(value)["tokens"] == ["close?"]


class OneToken:
    """Stands in for the network: an edge of which all that counts is whether it acts on one token."""

    def __init__(self, token):
        self.token = token

    def losses(self, edge, selections, pairs):
        here = selected_ids(pairs, [self.token])
        return np.array([0.5 - 0.4 * (where & here).sum() / here.sum() for where in selections])


@pytest.fixture
def reader(monkeypatch):
    """A reader of such an edge, on random prompts of 40 tokens; 7 is the one."""
    monkeypatch.setattr(measure, "ActingEdges", lambda *rest: OneToken(7))
    tokens = np.random.default_rng(0).integers(0, 40, (PAIRS, 2, 12))
    pairs = PairBatch(tokens, np.full(PAIRS, 11), np.zeros((PAIRS, 2), int))
    return EdgeReader(CIRCUIT, None, Words(Named("quotes", 64), 64), (pairs, pairs), CONFIG)


def test_random_sets_can_win(reader):
    """A set that holds the token among much else is no better than other sets that hold it."""
    assert reader.effect(0) == pytest.approx(0.4)
    alone = reader.read(0, {0: [7]})
    assert alone["passes"] and alone["score"] == pytest.approx(1) and alone["random"] < 0.5
    row = reader.read(0, {0: range(19)})
    assert row["score"] == pytest.approx(1) and row["coverage"] < CONFIG.coverage
    assert row["random"] == pytest.approx(1) and not row["passes"]
    everything = reader.read(0, {0: range(40)})
    assert everything["recovery"] == pytest.approx(1) and not everything["passes"]
    assert everything["random"] is None


@pytest.mark.parametrize(("ids", "enough"), [(10, False), (11, True)])
def test_a_reading_passes_only_if_there_are_as_many_sets_as_it_has_to_beat(monkeypatch, ids, enough):
    """Every prompt holds each id once, so that the other sets of equal coverage are those of one other id."""
    monkeypatch.setattr(measure, "ActingEdges", lambda *rest: OneToken(0))
    tokens = np.tile(np.arange(ids), (PAIRS, 2, 1))
    pairs = PairBatch(tokens, np.full(PAIRS, ids - 1), np.zeros((PAIRS, 2), int))
    reader = EdgeReader(CIRCUIT, None, Words(Named("quotes", 64), 64), (pairs, pairs), CONFIG)
    row = reader.read(0, {0: [0]})
    assert row["score"] == pytest.approx(1) and row["coverage"] < CONFIG.coverage
    assert row["random_sets"] == ids - 1 and row["passes"] == enough
    assert (row["random"] is None) == (row["random_coverage"] is None) == (not enough)
    shown = show_rows([row | {"source": "a", "target": "b", "effect": 0.4}])[0]["reading"]
    assert shown == ("passes" if enough else f"fails: too few other sets to beat ({ids - 1})")


@pytest.mark.slow
def test_a_head_that_averages_over_brackets_acts_at_the_last_token_whichever_that_is():
    """No set of token ids tells where: the last token is any word, and other words in the test pairs."""
    reader, circuit, _, test = planted("brackets")
    for edge in edges_from("brackets", "0.attn.v"):
        assert reader.effect(edge) > 0.3
        assert not reader.read(edge)["passes"]

        def last(name, tokens, edge=edge):
            return np.arange(len(tokens)) == len(tokens) - 1

        row = reader.read(edge, last)
        assert row["recovery"] == pytest.approx(1) and row["inverse"] == pytest.approx(0, abs=1e-4)
        assert row["passes"] and row["rule"] == "given"
        assert row["coverage"] == pytest.approx(1 / (test.last + 1).mean(), rel=0.01)


@pytest.mark.slow
def test_the_effect_is_what_the_loss_rises_by():
    reader, circuit, _, test = planted("quotes")
    effects = [reader.effect(edge) for edge in range(len(circuit.edges))]
    assert min(effects) > CONFIG.effect  # every planted edge is needed


def test_a_function_is_checked(reader):
    with pytest.raises(ConfigError, match="one bool a token"):
        reader.read(0, lambda edge, tokens: [True])
    with pytest.raises(ConfigError, match=f"selects none of the tokens of the {PAIRS} test pairs; name"):
        reader.check(lambda edge, tokens: np.zeros(len(tokens), bool))
    reader.check(lambda edge, tokens: None)


@pytest.mark.slow
def test_of_an_edge_of_which_a_function_says_nothing_the_default_is_read():
    reader, _, _, _ = planted("quotes")
    assert reader.read(detector()[1], lambda edge, tokens: None)["rule"] == "default"


def test_a_set_that_no_test_prompt_holds_is_refused(reader):
    with pytest.raises(ConfigError, match="selects none of the tokens .*'word"):
        reader.check({0: [60]})
    reader.check({0: [60, 7]})

"""Claims about networks whose circuit is known: what is true is confirmed, what is false is not."""

import numpy as np
import pytest

from circuits_jax.circuits.ablation.edits import at_positions, intervene
from circuits_jax.circuits.ablation.pairs import PairBatch, pair_batch, pair_difference
from circuits_jax.circuits.audit.intervals import ClusteredIntervals
from circuits_jax.circuits.planted import plant
from circuits_jax.circuits.stories.controls import DRAWS
from circuits_jax.circuits.stories.files import parse_story
from circuits_jax.circuits.stories.measure import StoryMeasurer
from circuits_jax.circuits.stories.story import Where, outcome
from circuits_jax.model.sites import node_sites
from circuits_jax.storage.errors import ConfigError
from tests.circuits.readings.circuits import circuit_of
from tests.circuits.stories.told import claim, role, told_of

PAIRS = 24


@pytest.fixture(scope="module")
def planted():
    return plant("quotes", 0, 8, 8, PAIRS)


@pytest.fixture(scope="module")
def circuit(planted):
    means = {site: np.full(width, 0.25, np.float32) for site, width in node_sites(planted.config).items()}
    return circuit_of(planted.model, means, planted.nodes)


@pytest.fixture(scope="module")
def parts(planted):
    """{name: node}: the detector is the neuron with the low bias, as it was wired."""
    bias = np.asarray(planted.params["h_0"]["mlp"]["c_fc"]["bias"])
    neurons = [node for node in planted.nodes if node.site == "0.mlp.post_act"]
    detector = min(neurons, key=lambda node: bias[node.index])
    (kind,) = (node for node in neurons if node != detector)
    (value,) = (node for node in planted.nodes if node.site == "1.attn.v")
    return {"detector": detector, "kind": kind, "value": value}


@pytest.fixture(scope="module")
def openers(planted):
    """Ids of the two tokens in which the prompts of pairs differ."""
    tokens = planted.test.tokens
    return sorted(set(tokens[tokens != tokens[:, ::-1]].tolist()))


@pytest.fixture(scope="module")
def measurer(planted, circuit):
    clusters = ClusteredIntervals(planted.test.template % 6, 0.95)
    return StoryMeasurer(circuit, planted.model, pair_batch(planted.test, 16), clusters, None, 0)


def measured(measurer, circuit, *roles):
    return measurer.measure(parse_story(told_of(circuit, list(roles)), circuit))


def test_a_true_story_is_confirmed(measurer, circuit, parts, openers):
    there = {"tokens": openers}
    true = [
        role(
            "detector",
            [parts["detector"]],
            claim("set", to=0, where=there, figure="right", at_most=0.75),
            claim("compare", where=there),
        ),
        role("kind", [parts["kind"]], claim("swap", where={"at": "differ"})),
        role("carrier", [parts["value"]], claim("swap")),
    ]
    found = measured(measurer, circuit, *true)
    assert all(each["passes"] for figures in found for each in figures), found
    (removed, higher), (swapped,), (carried,) = [[each["control"] for each in figures] for figures in found]
    assert removed["sets"] == DRAWS and removed["meet"] == 0
    assert higher["rank"] == 1 and higher["among"] > DRAWS and higher["share"] > 1 / higher["among"]
    for rest in (swapped, carried):
        assert rest["figure"] < 0.5 and rest["nodes"] > 5 and not rest["meets"]
    assert found[0][0]["before"] > 0.9 and found[1][0]["before"] is None
    assert all(each["low"] <= each["value"] <= each["high"] for figures in found for each in figures)


def test_a_false_story_is_not(measurer, circuit, parts, openers):
    there = {"tokens": openers}
    false = [
        role("kind", [parts["detector"]], claim("swap")),
        role("detector", [parts["kind"]], claim("set", to=0, figure="right"), claim("compare", where=there)),
        role("carrier", [parts["value"]], claim("swap", where={"at": "last"})),
    ]
    found = measured(measurer, circuit, *false)
    assert not any(all(each["passes"] for each in figures) for figures in found), found
    assert outcome(found[0][0]).startswith("not confirmed: it misses its bound")


def test_a_bound_that_the_rest_meets_as_well_confirms_nothing(measurer, circuit, parts):
    ((figure,),) = measured(
        measurer, circuit, role("kind", [parts["kind"]], claim("swap", figure="flips", at_least=0.0))
    )
    assert figure["holds"] and not figure["passes"] and figure["control"]["meets"]
    assert outcome(figure).startswith("not confirmed: the rest of the site does as much")


def test_swapping_the_rest_is_swapping_all_other_nodes_of_the_site(measurer, planted, circuit, parts):
    """Against runs on the other prompts, of which all but one node of the site is taken."""
    node = parts["kind"]
    ((figure,),) = measured(measurer, circuit, role("one", [node], claim("swap")))
    test, flips = planted.test, []
    others = [i for i in range(node_sites(planted.config)[node.site]) if i != node.index]
    for pair in range(PAIRS):
        _, records = planted.model.apply(test.tokens[pair], record=[node.site])
        x = np.asarray(records[node.site])
        mixed = x[::-1].copy()
        mixed[..., node.index] = x[..., node.index]
        assert (mixed[..., others] == x[::-1][..., others]).all()
        batch = PairBatch(*(each[pair : pair + 1] for each in (test.tokens, test.last, test.answers)))
        plain, changed = (
            np.asarray(pair_difference(planted.model.network, planted.params, batch, tap))
            for tap in (None, lambda site, x, to=mixed: to if site == node.site else x)
        )
        flips.append(((plain > 0) != (changed > 0)).mean())
    assert figure["control"]["figure"] == pytest.approx(np.mean(flips), abs=1e-6)


def test_set_nodes_are_what_an_edit_makes_of_them_at_those_positions(measurer, planted, circuit, parts):
    """Against `intervene`, prompt by prompt."""
    node = parts["kind"]
    told = claim("set", to=-3.0, where={"at": "differ"}, figure="B")
    ((figure,),) = measured(measurer, circuit, role("one", [node], told))
    prefer, test = [], planted.test
    for pair in range(PAIRS):
        where = test.tokens[pair, 0] != test.tokens[pair, 1]
        tap = at_positions(intervene(planted.config, [f"{node}=-3.0"]), where)
        batch = PairBatch(*(x[pair : pair + 1] for x in (test.tokens, test.last, test.answers)))
        prefer.append(np.asarray(pair_difference(planted.model.network, planted.params, batch, tap)) < 0)
    assert figure["value"] == pytest.approx(np.mean(prefer))
    assert figure["value"] > 0.9 and 0.4 < figure["before"] < 0.6


def test_a_mean_is_the_circuits(measurer, circuit, parts):
    node = parts["kind"]
    by_word, by_number = (
        measured(measurer, circuit, role("one", [node], claim("set", to=to, figure="right")))[0][0]
        for to in ("mean", 0.25)
    )
    assert by_word["value"] == by_number["value"] < by_word["before"]


def test_how_often_a_node_is_higher_is_counted_by_hand(measurer, planted, circuit, parts):
    node = parts["kind"]
    told = [claim("compare", where={"prompt": "A"}, than={"prompt": "B"}, at_least=0.0), claim("swap")]
    ((figure, _),) = measured(measurer, circuit, role("one", [node], *told))
    _, records = planted.model.apply(planted.test.tokens.reshape(2 * PAIRS, -1), record=[node.site])
    x = np.asarray(records[node.site])[..., node.index].reshape(PAIRS, 2, -1)
    shares = []
    for (a, b), last in zip(x, planted.test.last, strict=True):
        pairs = [(p > q) + 0.5 * (p == q) for p in a[: last + 1] for q in b[: last + 1]]
        shares.append(np.mean(pairs))
    assert figure["value"] == pytest.approx(np.mean(shares), abs=1e-6)


def test_positions_are_those_that_are_meant(measurer, planted, circuit, openers):
    tokens, last = planted.test.tokens, planted.test.last
    everywhere = measurer.positions(Where(), "x")
    assert everywhere.sum() == 2 * (last + 1).sum()
    assert measurer.positions(Where(at="last"), "x").sum() == 2 * PAIRS
    earlier = measurer.positions(Where(at="earlier"), "x")
    assert (earlier ^ everywhere == measurer.positions(Where(at="last"), "x")).all()
    differ = measurer.positions(Where(at="differ"), "x")
    assert differ.sum() == 2 * PAIRS and (differ == np.isin(tokens, openers)).all()
    of_b = measurer.positions(Where(tuple(openers), "B"), "x")
    assert not of_b[:, 0].any() and (of_b[:, 1] == differ[:, 1]).all()


@pytest.mark.parametrize(
    "told, words",
    [
        (claim("swap", where={"tokens": [0]}), "claim 1 of role 'one' is of positions that none of the 24"),
        (claim("swap", where={"tokens": ["'"]}), 'names "\'", and this model has no tokenizer; give ids'),
    ],
)
def test_positions_that_are_not_there_are_told(measurer, circuit, parts, told, words):
    with pytest.raises(ConfigError, match=words):
        measured(measurer, circuit, role("one", [parts["kind"]], told))

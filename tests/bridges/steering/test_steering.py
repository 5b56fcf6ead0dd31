"""Steering, on a network in which it is known what must happen."""

import numpy as np
import pytest

from circuits_jax.bridges.steering import experiment
from circuits_jax.bridges.steering.directions import (
    Candidate,
    check_steerable,
    choose,
    differences,
    directions,
    is_steerable,
    read_node,
)
from circuits_jax.bridges.steering.experiment import CONTROLS, OURS, SPARSE, WHOLE, Steering
from circuits_jax.bridges.steering.strengths import Answers, check_strengths, flip_strength, sweep
from circuits_jax.bridges.steering.writes import make_edit, random_directions, random_nodes, wrong_positions
from circuits_jax.circuits.circuit import Node
from circuits_jax.config import ModelConfig, SteerConfig
from circuits_jax.runs import steering
from circuits_jax.storage.errors import BridgeError, ConfigError
from tests.bridges.planted import itself, planted, prompts

CONFIG = SteerConfig(strengths=(0.0, 0.5, 1.0, 2.0), pairs=24, draws=4)
NEURONS = [node for node in planted().nodes if node.site == "0.mlp.post_act"]


@pytest.fixture(scope="module")
def joined():
    return itself()


@pytest.fixture(scope="module")
def kind(joined):
    """The neuron that tells the two quotes apart, and what it does on the prompts."""
    values = differences(joined.sparse, prompts(), ["0.mlp.post_act"])
    change = values["0.mlp.post_act"]
    node = max(NEURONS, key=lambda node: np.abs(change[..., node.index]).sum())
    return node, values, directions(joined.bridge, joined.sparse.params, joined.bridges)


@pytest.fixture(scope="module")
def report(joined, kind):
    texts = planted().corpus.reshape(-1, planted().config.n_ctx)[:20, : prompts().tokens.shape[-1]]
    return Steering(joined, CONFIG).run([kind[0]], prompts("select"), prompts(), np.arange(24), texts)


def at(report, name, strength):
    """Probability of B's answer."""
    return report["series"][name]["other_answer"][CONFIG.strengths.index(strength)]["value"]


@pytest.mark.slow
def test_the_planted_type_neuron_flips_the_answer_at_strength_1(report):
    assert at(report, OURS, 0.0) < 0.1
    assert at(report, OURS, 1.0) > 0.9
    assert report["flip_strength"] in (0.5, 1.0)
    assert report["untouched"]["dense"]["value"] > 0.9
    assert report["select"]["pairs"] == 24 and max(report["select"]["flipped"]) > 0.5


@pytest.mark.slow
def test_the_sparse_model_shows_what_its_twin_shows(report):
    """The dense model is the sparse one: turning the node inside it is the same edit."""
    assert at(report, SPARSE, 1.0) == pytest.approx(at(report, OURS, 1.0), abs=0.02)
    assert report["reverse"]["sparse_share"] == pytest.approx(1, abs=0.1)
    assert at(report, WHOLE, 1.0) > 0.9


@pytest.mark.slow
def test_controls_of_equal_norm_do_not_flip_it(report):
    flip = report["shown_strength"]
    for name in CONTROLS:
        assert at(report, name, flip) < 0.35, name
        assert len(report["series"][name]["draws"]) == CONFIG.draws
    # The bands hold the values, and are bands where pairs differ.
    for series in report["series"].values():
        assert all(point["low"] <= point["value"] <= point["high"] for point in series["other_answer"])


@pytest.mark.slow
def test_specificity_is_told_of_every_edit(report):
    assert set(report["specificity"]) == {OURS, *CONTROLS}
    assert all(0 <= each["low"] <= each["value"] <= each["high"] for each in report["specificity"].values())
    assert report["specificity"][OURS]["value"] > 0


@pytest.mark.slow
def test_the_node_that_is_found_is_of_the_planted_circuit(joined):
    steering = Steering(joined, CONFIG)
    (node,), table = steering.find(prompts("train"))
    # The same residual channel may be read by another half before the circuit's own.
    channels = {each.index for each in planted().nodes if each.site.endswith(("act_in", "resid_delta"))}
    assert node in planted().nodes or (node.site.endswith("act_in") and node.index in channels)
    assert table[0]["node"] == str(node) and table[0]["separation"] == 1
    assert [row["effect"] for row in table] == sorted((row["effect"] for row in table), reverse=True)
    assert len({row["node"].rpartition(".")[0] for row in table}) == len(table) > 1  # the best of each site
    (other,), table = steering.find(prompts("train"), lambda node: node in NEURONS)
    assert other in NEURONS and [row["node"] for row in table] == [str(other)]


@pytest.mark.slow
def test_an_edit_is_b_minus_a_times_the_outgoing_weights(joined, kind):
    node, values, writes = kind
    tokens, last, _ = prompts()
    edit = make_edit([node], writes, values)
    assert list(edit) == [2]  # after the MLP half of layer 0
    count = len(last)
    logged = joined.sparse.network.apply(
        joined.sparse.params, tokens.reshape(2 * count, -1), record=[node.site]
    )[1][node.site]
    value = np.asarray(logged)[..., node.index].reshape(count, 2, -1)
    outgoing = np.asarray(joined.sparse.params["h_0"]["mlp"]["c_proj"]["kernel"])[node.index]
    for row in range(count):
        for place in range(tokens.shape[-1]):
            amount = value[row, 1, place] - value[row, 0, place] if place <= last[row] else 0
            np.testing.assert_allclose(edit[2][row, place], amount * outgoing, atol=1e-5)


@pytest.mark.parametrize(
    ("site", "place", "reads"),
    [
        ("1.attn.act_in", 2, "1.resid_in"),
        ("1.attn.v", 3, "1.attn.y"),
        ("0.attn.resid_delta", 1, "0.attn.resid_delta"),
        ("1.mlp.act_in", 3, "1.resid_mid"),
        ("1.mlp.post_act", 4, "1.mlp.post_act"),
        ("0.mlp.resid_delta", 2, "0.mlp.resid_delta"),
    ],
)
def test_where_and_which_way_a_node_is_written(joined, site, place, reads):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=joined.bridges["decoder"]["kernel"].shape).astype(np.float32)
    bridges = {**joined.bridges, "decoder": {**joined.bridges["decoder"], "kernel": kernel}}
    found = directions(joined.bridge, joined.sparse.params, bridges)[site]
    assert (found.place, found.reads) == (place, reads)
    layer, half = site.split(".")[:2]
    expected = kernel[place]
    if site.endswith((".v", "post_act")):
        expected = np.asarray(joined.sparse.params[f"h_{layer}"][half]["c_proj"]["kernel"]) @ expected
    np.testing.assert_allclose(found.vectors, expected, atol=1e-5)


def test_a_residual_read_is_written_in_the_units_of_the_stream(joined):
    """At strength 1 it moves the stream, here the very same one, as far in the channel as B is from A."""
    network, tokens = joined.sparse.network, prompts().tokens
    writes = directions(joined.bridge, joined.sparse.params, joined.bridges)
    values = differences(joined.sparse, prompts(), [writes["1.attn.act_in"].reads])
    rows = tokens.reshape(-1, tokens.shape[-1])
    streams = network.apply(joined.sparse.params, rows, record=["1.resid_in"])[1]
    stream = np.asarray(streams["1.resid_in"]).reshape(*tokens.shape, -1)
    index = int(np.abs(values["1.resid_in"]).sum(axis=(0, 1)).argmax())
    edit = make_edit([Node("1.attn.act_in", index)], writes, values)[2]
    within = prompts().within()
    np.testing.assert_allclose(
        edit[..., index], (stream[:, 1] - stream[:, 0])[..., index] * within, atol=1e-5
    )
    assert np.count_nonzero(np.delete(edit, index, axis=-1)) == 0 and np.abs(edit).max() > 0.1


@pytest.mark.parametrize("control", [random_nodes, random_directions])
def test_a_random_control_has_the_norm_of_the_edit_at_every_position(kind, control):
    node, values, writes = kind
    ours, other = (
        make_edit([node], writes, values)[2],
        control([node], writes, values, np.random.RandomState(0))[2],
    )
    np.testing.assert_allclose(np.linalg.norm(other, axis=-1), np.linalg.norm(ours, axis=-1), rtol=1e-4)
    first = np.argwhere(np.linalg.norm(ours, axis=-1) > 0)[0]
    cosine = ours[tuple(first)] @ other[tuple(first)] / np.linalg.norm(ours[tuple(first)]) ** 2
    assert abs(cosine) < 0.9


def test_wrong_positions_hold_the_same_amounts_elsewhere(kind):
    node, values, writes = kind
    within = prompts().within()
    ours = make_edit([node], writes, values)[2]
    moved = wrong_positions([node], writes, values, within, np.random.RandomState(0))[2]
    a, b = (np.linalg.norm(each, axis=-1) for each in (ours, moved))
    np.testing.assert_allclose(np.sort(a, axis=1), np.sort(b, axis=1), rtol=1e-5)
    assert not np.any((a > 0.1) & (b > 0.1))  # one position differs in each pair, and it moved
    assert not np.any(b[~within])


def test_a_strength_that_overflows_is_refused(joined, kind):
    node, values, writes = kind
    deltas = {"1.resid_in": make_edit([node], writes, values)[2]}
    with pytest.raises(BridgeError, match=r"strength 1e\+30 overflows.*steer\.strengths below"):
        check_strengths(deltas, [1.0, 1e30])
    with pytest.raises(BridgeError, match=r"1e\+30 overflows"):
        sweep(joined.dense, prompts(), deltas, [1e30])
    with pytest.raises(ConfigError, match=r"steer\.strengths.*finite"):
        SteerConfig(strengths=(0.0, float("inf")))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.mlp.post_act.9999", ["outside the sparse model", "0 to 255"]),
        ("7.mlp.post_act.1", ["outside the sparse model", "7.mlp.post_act"]),
        ("nonsense", ["'nonsense'", "SITE.INDEX"]),
        ("1.attn.q.3", ["1.attn.q.3", "writes nothing", "attn.v"]),
        ("0.resid_in.3", ["writes nothing"]),
    ],
)
def test_a_node_that_cannot_be_turned_is_one_line(joined, text, words):
    with pytest.raises(BridgeError) as caught:
        read_node(text, joined.bridge)
    assert [word for word in words if word not in str(caught.value)] == []
    assert "\n" not in str(caught.value)


def test_without_a_node_that_separates_there_is_an_error():
    found = [Candidate(Node("0.mlp.post_act", 1), 0.6, 2.0), Candidate(Node("0.mlp.post_act", 2), 1.0, -1.0)]
    with pytest.raises(BridgeError, match=r"only 0 nodes.*90%.*best separates 100%.*steer\.separation"):
        choose(found, 1, 0.9)
    assert choose(found, 1, 0.5) == [found[0].node]
    with pytest.raises(BridgeError, match="only 1 nodes"):
        choose(found, 2, 0.5)


def test_one_channel_of_the_stream_is_chosen_once():
    """What a half writes and what the next one reads of it are the same direction at the same site."""
    names = ["0.mlp.resid_delta", "1.attn.act_in", "1.mlp.act_in", "0.mlp.post_act"]
    found = [Candidate(Node(name, 7), 1.0, 5.0 - number) for number, name in enumerate(names)]
    assert [node.site for node in choose(found, 3, 0.9)] == [names[0], names[2], names[3]]
    with pytest.raises(BridgeError, match="only 3 nodes"):
        choose(found, 4, 0.9)


def test_position_features_have_no_place_in_the_stream():
    config = ModelConfig(d_model=32, position="concat", d_pos=8)
    assert is_steerable(Node("1.mlp.act_in", 31), config)
    with pytest.raises(BridgeError, match=r"1\.mlp\.act_in\.32 writes nothing"):
        check_steerable(Node("1.mlp.act_in", 32), config)
    assert is_steerable(Node("1.mlp.post_act", 32), config)


def test_the_flip_is_the_first_strength_at_which_most_answers_are_b_s():
    other = np.array([[0.9, 0.9, 0.9], [0.1, 0.2, 0.3], [0.6, 0.7, 0.1], [0.9, 0.9, 0.9]])
    assert flip_strength([-1.0, 0.0, 1.0, 2.0], other) == 1
    assert flip_strength([0.0, 1.0], other[1:2].repeat(2, 0)) is None
    assert flip_strength([0.0, 1.0], other[2:]) is None  # the answer is B's without any edit


@pytest.mark.parametrize(("flip_of_select", "shown"), [(1.0, 1.0), (None, 2.0)])
def test_select_pairs_choose_the_strength_and_test_pairs_report_at_it(
    joined, kind, monkeypatch, flip_of_select, shown
):
    """Three in four of the test answers flip at 0.5 already, which decides nothing; at 1 and 2 all do."""
    select, test = prompts("select"), prompts()
    of_test = {0.0: 0, 0.5: 18, 1.0: 24, 2.0: 24}

    def answers(model, pairs, deltas, strengths):
        of_select = {strength: 24 * (strength >= (flip_of_select or np.inf)) for strength in strengths}
        flips = of_select if pairs is select else of_test
        margin = np.array(
            [[1.0] * flips[strength] + [-1.0] * (24 - flips[strength]) for strength in strengths]
        )
        return Answers(margin, np.zeros((*margin.shape, 2)))

    monkeypatch.setattr(experiment, "sweep", answers)
    monkeypatch.setattr(experiment, "text_divergence", lambda *given: np.array([0.1, given[-1]]))
    report = Steering(joined, CONFIG).run([kind[0]], select, test, np.arange(24), test.tokens[:2, 0])
    assert (report["flip_strength"], report["shown_strength"]) == (flip_of_select, shown)
    never = flip_of_select is None
    assert report["select"] == {"pairs": 24, "flipped": [0, 0, 0, 0] if never else [0, 0, 1, 1]}
    assert report["series"][OURS]["flipped"] == [0, 0.75, 1, 1]  # all strengths stay
    assert report["specificity"][OURS]["value"] == pytest.approx((0.1 + shown) / 2)
    line = steering.row(report | {"task": "quotes"})
    assert line["flips at"] == ("never" if never else 1.0) and line["flipped"] == 1.0


def test_two_nodes_are_written_together(joined, kind):
    node, values, writes = kind
    both = make_edit([node, node], writes, values)[2]
    np.testing.assert_allclose(both, 2 * make_edit([node], writes, values)[2], rtol=1e-6)

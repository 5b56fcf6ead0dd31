"""The file of a story: what it may hold, and what is refused in one line."""

import dataclasses
import json

import numpy as np
import pytest

from circuits_jax.circuits.circuit import Node
from circuits_jax.circuits.planted import plant
from circuits_jax.circuits.stories.files import FIELDS, has_story, parse_story, read_story
from circuits_jax.circuits.stories.story import Where, control_words, outcome
from circuits_jax.model.sites import node_sites
from circuits_jax.storage.errors import CheckpointError, CircuitError, UserError
from tests.circuits.readings.circuits import circuit_of
from tests.circuits.stories.told import claim, role, told_of

FIGURE = {
    "value": 0.95, "low": 0.9, "high": 1.0, "before": None,
    "control": {"kind": "random sets", "figure": 0.1, "sets": 20, "meet": 0, "beaten": True},
    "holds": True, "clear": True, "passes": True,
}  # fmt: skip


REST_OF_SITE = {"kind": "rest", "figure": 0.95, "nodes": 80, "meets": True, "beaten": False}
RANKED = {"kind": "rank", "rank": 6, "among": 96, "share": 0.033, "chance": 0.0625, "beaten": False}


@pytest.fixture(scope="module")
def circuit():
    planted = plant("quotes", 0, 8, 8, 8)
    means = {site: np.zeros(width, np.float32) for site, width in node_sites(planted.config).items()}
    return circuit_of(planted.model, means, planted.nodes)


@pytest.fixture
def story(circuit):
    """Of two roles; the first names a node of its own for a claim."""
    a, b = circuit.nodes[:2]
    first = role("one", [a, b], claim("swap"), claim("compare", nodes=[str(b)], where={"tokens": [3, 4]}))
    set_ = claim("set", to={str(a): "mean"}, where={"prompt": "B", "at": "last"}, figure="A", at_most=0.2)
    return told_of(circuit, [first, role("two", [a], set_)])


def test_what_is_told_is_read(circuit, story):
    found = parse_story(story, circuit)
    a, b = circuit.nodes[:2]
    one, two = found.roles
    assert (one.name, one.nodes, one.says) == ("one", (a, b), "The one.")
    assert one.claims[0].nodes == (a, b) and one.claims[1].nodes == (b,)
    assert one.claims[1].where == Where((3, 4)) and one.claims[1].than is None
    assert two.claims[0].values == (None,) and two.claims[0].where == Where((), "B", "last")
    assert (two.claims[0].bound, two.claims[0].at_most, two.claims[0].sign) == (0.2, True, "<=")
    assert found.confirmed is None and repr(found) == "A title: 2 roles, not measured"


def test_figures_are_void_once_a_claim_changes(circuit, story, tmp_path):
    settings = {"pairs": 8}
    figures = [[FIGURE, FIGURE], [{**FIGURE, "passes": False, "holds": False}]]
    told = dataclasses.replace(parse_story(story, circuit), measured={"settings": settings, "roles": figures})
    assert not has_story(tmp_path)
    told.save(tmp_path)
    assert has_story(tmp_path)
    again = read_story(tmp_path / "story.json", circuit)
    assert again.measured == told.measured and again.confirmed == [True, False] and again.told == told.told
    assert repr(again) == "A title: 1 of 2 roles confirmed"
    assert again.outcomes == ["confirmed", "not confirmed (0 of 1 claims)"]
    assert [row.get("outcome") for row in again.rows] == ["confirmed"] * 2 + [
        "not confirmed: it misses its bound"
    ]
    assert again._repr_html_().count("<tr>") == 4
    whole = json.loads((tmp_path / "story.json").read_text())
    whole["roles"][0]["says"] = "It was."
    retold = parse_story(whole | {"title": "Another", "text": ["It came out."]}, circuit)
    assert retold.confirmed == [True, False] and retold.title == "Another"
    for changed in (
        json.loads(json.dumps(whole).replace('"two"', '"other"')),
        json.loads(json.dumps(whole).replace('"at_least": 0.9', '"at_least": 0.8')),
        whole | {"measured": whole["measured"] | {"roles": figures[:1]}},
        whole | {"measured": whole["measured"] | {"roles": [[FIGURE, {}], [FIGURE]]}},
        whole | {"measured": whole["measured"] | {"roles": 3}},
        whole | {"measured": whole["measured"] | {"roles": [*figures, 3]}},
        whole | {"measured": whole["measured"] | {"roles": [[FIGURE, 3], [FIGURE]]}},
        whole | {"measured": whole["measured"] | {"roles": [[FIGURE, FIGURE | {"value": "1"}], [FIGURE]]}},
        whole | {"measured": whole["measured"] | {"settings": None}},
        whole | {"measured": [1]},
    ):
        assert parse_story(changed, circuit).measured is None
    assert FIGURE.keys() == FIELDS


@pytest.mark.parametrize(
    "figure, words",
    [
        ({}, "confirmed"),
        ({"clear": False}, "confirmed, close"),
        ({"passes": False, "holds": False, "clear": False}, "not confirmed: it misses its bound, close"),
        ({"passes": False}, "not confirmed: random nodes do as well"),
        (
            {"passes": False, "control": {"kind": "random sets", "figure": None, "sets": 3, "meet": 0}},
            "too few other nodes to compare with (3 sets)",
        ),
        ({"passes": False, "control": REST_OF_SITE}, "not confirmed: the rest of the site does as much"),
        ({"passes": False, "control": RANKED}, "not confirmed: other nodes differ more"),
    ],
)
def test_a_claim_comes_out_in_words(figure, words):
    assert outcome(FIGURE | figure).endswith(words)


def test_what_stands_beside_a_figure_is_told_in_words():
    assert control_words(FIGURE["control"]) == "0.10, best of random; 0 of 20 meet the bound"
    assert control_words({"kind": "random sets", "figure": None, "sets": 3}) == "3 random sets, too few"
    assert control_words(REST_OF_SITE) == "0.95 by the 80 others"
    assert control_words(RANKED) == "rank 6 of 96, 3% of the difference"


def test_figures_with_the_controls_of_before_are_void(circuit, story):
    before = {key: value for key, value in FIGURE.items() if key != "control"} | {"random": 0.1}
    told = parse_story(story, circuit)
    for figure in (before, FIGURE | {"control": {"kind": "rank"}}, FIGURE | {"control": {"kind": "another"}}):
        measured = {"of": told.digest, "settings": {}, "roles": [[FIGURE, figure], [FIGURE]]}
        assert parse_story(story | {"measured": measured}, circuit).measured is None


def test_a_confirmed_role_whose_interval_crosses_a_bound_is_close(circuit, story):
    figures = [[FIGURE, FIGURE | {"clear": False}], [FIGURE]]
    told = dataclasses.replace(parse_story(story, circuit), measured={"settings": {}, "roles": figures})
    assert told.outcomes == ["confirmed, close", "confirmed"] and told.confirmed == [True, True]


def changed(story, *path, to):
    """A copy with one place changed."""
    copy = json.loads(json.dumps(story))
    *way, last = path
    place = copy
    for key in way:
        place = place[key]
    if to is KeyError:
        del place[last]
    else:
        place[last] = to
    return copy


CLAIM = ("roles", 0, "claims", 0)


@pytest.mark.parametrize(
    "path, to, words",
    [
        (("format",), "x", "no story of version 1"),
        (("version",), 2, "no story of version 1"),
        (("circuit",), "b1fb1702", "the story is of circuit 'b1fb1702', and this one"),
        (("title",), " ", "'title' of the story must be a text"),
        (("title",), "\ud800", "half a character"),
        (("text",), [], "'text' of the story must be a list of one or more"),
        (("text", 0), "x" * 2001, "has 2,001 letters"),
        (("subtitle",), "x", "the story has a field 'subtitle'; it may have format, version"),
        (("roles",), None, "'roles' of the story must be a list"),
        (("roles", 1), 3, "role 2 is no object"),
        (("roles", 1, "name"), "one", "two roles are called 'one'"),
        (
            ("roles", 0, "nodes", 0),
            "0.attn.v.9999",
            "role 'one' names the node '0.attn.v.9999', which the ci",
        ),
        (("roles", 0, "nodes", 0), 7, "names the node 7, which the circuit"),
        (("roles", 0, "claims"), [], "'claims' of role 'one' must be a list"),
        (
            ("roles", 0, "claims"),
            [{"claim": "x", "do": "compare", "at_least": 0.5}],
            "no claim that intervenes",
        ),
        ((*CLAIM, "do"), "mean", "'do' of claim 1 of role 'one' is 'mean'; choose one of swap, set, compare"),
        ((*CLAIM, "figure"), "loss", "is 'loss'; choose one of flips, right, A, B"),
        ((*CLAIM, "at_least"), KeyError, "claim 1 of role 'one' must have one bound"),
        ((*CLAIM, "at_most"), 0.5, "must have one bound"),
        ((*CLAIM, "at_least"), 1.5, "figures are shares, from 0 to 1"),
        ((*CLAIM, "at_least"), True, "give a finite number"),
        ((*CLAIM, "where"), [], "'where' of claim 1 of role 'one' is no object"),
        ((*CLAIM, "where"), {"at": "middle"}, "choose one of everywhere, earlier, last, differ"),
        ((*CLAIM, "where"), {"tokens": [True]}, "names True; a token is a text or an id"),
        ((*CLAIM, "to"), 0, "has a field 'to'; it may have claim, do, nodes"),
        (("roles", 1, "claims", 0, "to"), {}, "must have a value for each of its nodes and no other"),
        (("roles", 1, "claims", 0, "to"), float("inf"), "is inf; give a finite number"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(circuit, story, path, to, words, tmp_path):
    with pytest.raises(UserError) as refused:
        parse_story(changed(story, *path, to=to), circuit)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_a_node_twice_is_refused(circuit, story):
    node = str(circuit.nodes[0])
    with pytest.raises(CheckpointError, match="role 'one' names a node twice"):
        parse_story(changed(story, "roles", 0, "nodes", to=[node, node]), circuit)


def test_errors_name_the_file(circuit, story, tmp_path):
    path = tmp_path / "story.json"
    for content, kind, words in (
        (changed(story, "circuit", to="0"), CircuitError, r"story.json: the story is of circuit '0'"),
        (changed(story, "title", to=1), CheckpointError, r"story.json: 'title' of the story must be a text"),
        ([], CheckpointError, "story.json holds a JSON list"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(kind, match=words):
            read_story(path, circuit)
    path.write_text("{")
    with pytest.raises(CheckpointError, match="story.json is not valid JSON"):
        read_story(path, circuit)
    assert Node("0.attn.v", 9999) not in circuit.nodes

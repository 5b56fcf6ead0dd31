"""The stories of a run's circuits: measured, kept beside them, drawn, and refused in one line."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from circuits_jax.circuits.circuit import load_circuit
from circuits_jax.circuits.stories.measure import StoryMeasurer
from circuits_jax.circuits.stories.story import FILE
from circuits_jax.commands import stories as command
from circuits_jax.runs import stories
from circuits_jax.runs.stories import measure_stories
from circuits_jax.storage import notices
from circuits_jax.storage.errors import CheckpointError, CircuitError, ConfigError
from circuits_jax.viewer.stories import read_told
from tests.circuits.stories.told import claim, role, told_of
from tests.runs.digits import TASK, make_model, make_run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(*make_model(tmp_path_factory.mktemp("task")), tmp_path_factory.mktemp("run"))


@pytest.fixture
def run(made, tmp_path):
    """A copy of a run whose circuit has no story yet."""
    shutil.copytree(made.folder, tmp_path, dirs_exist_ok=True)
    return dataclasses.replace(made, workdir=tmp_path)


@pytest.fixture
def told(run):
    """A story of its circuit, written beside it."""
    (circuit,) = run.circuits
    node = next(node for node in circuit.nodes if node.site == "0.mlp.post_act")
    claims = claim("swap", at_least=0.0), claim("compare", where={"tokens": ["1", "2"]}, at_least=0.5)
    story = told_of(circuit, [role("a <b>role</b>", [node], *claims)])
    (place(run)).write_text(json.dumps(story))
    return story


def place(run):
    return run.folder / "circuits" / TASK / FILE


@pytest.fixture
def figures(monkeypatch):
    """In place of measuring: how often it was asked for."""
    asked = []

    def measure(measurer, story):
        asked.append(story.title)
        control = {"kind": "rest", "figure": 0.0, "nodes": 9, "meets": False, "beaten": True}
        figure = {"value": 1.0, "low": 0.6, "high": 1.0, "before": None, "control": control}
        return [
            [{**figure, "holds": True, "clear": True, "passes": True} for _ in r.claims] for r in story.roles
        ]

    monkeypatch.setattr(StoryMeasurer, "measure", measure)
    return asked


def test_a_story_is_measured_on_pairs_that_pruning_has_not_seen(run, told):
    (circuit,) = run.circuits
    story = run.story(circuit)
    (role_,) = story.measured["roles"]
    assert role_[0]["control"]["kind"] in ("rest", "random sets") and 0 <= role_[1]["value"] <= 1
    assert story.measured["settings"]["pairs"] == 16
    written = json.loads(place(run).read_text())
    assert {key: written[key] for key in told} == told
    assert written["measured"]["roles"] == json.loads(json.dumps(story.measured["roles"]))


def test_what_was_measured_is_not_measured_again_unless_it_is_told_anew(run, told, figures):
    (circuit,) = run.circuits
    first = run.story(circuit)
    assert run.story(circuit).measured == first.measured and len(figures) == 1
    written = json.loads(place(run).read_text())
    anew = json.loads(json.dumps(written).replace("It does.", "It does indeed."))
    place(run).write_text(json.dumps(anew | {"title": "Told anew"}))
    assert read_told({place(run).parent: circuit})[TASK]["settings"] is None
    assert run.story(circuit).confirmed == [True] and figures == ["A title", "Told anew"]
    config = dataclasses.replace(run.config, audit=dataclasses.replace(run.config.audit, pairs=8))
    dataclasses.replace(run, config=config).story(circuit)
    assert len(figures) == 3


def test_pages_read_it_and_one_of_another_circuit_is_left_out_and_told(run, told, figures, monkeypatch):
    (circuit,) = run.circuits
    run.story(circuit)
    (shown,) = read_told({place(run).parent: circuit}).values()
    (one,) = shown["roles"]
    assert one["name"] == "a <b>role</b>" and one["confirmed"] and one["nodes"] == told["roles"][0]["nodes"]
    assert one["claims"][1]["how"].endswith("at tokens '1' '2' against all others.")
    assert one["claims"][0]["measured"]["outcome"] == "confirmed"
    said = []
    monkeypatch.setattr(notices, "at_the_end", said.append)
    place(run).write_text(json.dumps(told | {"circuit": "00000000"}))
    assert read_told({place(run).parent: circuit}) == {}
    assert f"left out the story of {TASK}" in said[0] and "is of circuit '00000000'" in said[0]
    place(run).unlink()
    assert read_told({place(run).parent: circuit}) == {} and len(said) == 1


def test_what_cannot_be_measured_is_told_before_any_work(run, told, figures):
    (circuit,) = run.circuits
    strange = json.loads(json.dumps(told).replace(told["roles"][0]["nodes"][0], "9.attn.v.0"))
    for content, error, words in (
        (strange, CircuitError, r"story.json: role .* names the node '9.attn.v.0', which the circuit of"),
        (told | {"version": 9}, CheckpointError, "story.json: this is no story of version 1"),
    ):
        place(run).write_text(json.dumps(content))
        with pytest.raises(error, match=words):
            run.story(circuit)
    place(run).unlink()
    with pytest.raises(
        CircuitError, match=rf"has no story; write .*story.json of circuit '{circuit.digest}'"
    ):
        run.story(circuit)
    assert figures == [] and measure_stories(run, [], run.config.audit) == {}


def test_a_mean_is_over_the_corpus_where_the_circuits_own_are_zeros(run, told, monkeypatch):
    (circuit,) = run.circuits
    node = next(node for node in circuit.nodes if node.site == "0.mlp.post_act")
    told["roles"][0]["claims"][0] = claim("set", to="mean")
    place(run).write_text(json.dumps(told))
    windows = np.random.default_rng(0).integers(0, run.model.config.vocab_size, (1, 4, 16))
    monkeypatch.setattr(stories, "reference_windows", lambda *_: windows)
    seen = []
    monkeypatch.setattr(
        StoryMeasurer, "measure", lambda measurer, _: seen.append(measurer._circuit.means) or [[{}, {}]]
    )
    dataclasses.replace(run, prepared=object()).story(circuit)
    _, records = run.model.apply(windows[0], record=[node.site])
    expected = np.asarray(records[node.site]).mean(axis=(0, 1))
    np.testing.assert_allclose(seen[0][node.site], expected, rtol=1e-4, atol=1e-6)
    assert circuit.ablation == "zero" and expected.any() and not circuit.means[node.site].any()


def test_a_token_that_is_none_is_told(run, told):
    told["roles"][0]["claims"][0]["where"] = {"tokens": ["no such token"]}
    place(run).write_text(json.dumps(told))
    with pytest.raises(
        ConfigError, match="claim 1 of role 'a <b>role</b>' names 'no such token', which is no"
    ):
        run.story(load_circuit(place(run).parent))


def test_the_command_measures_the_circuits_that_have_one(run, told, figures, monkeypatch, capsys):
    monkeypatch.setattr(command, "load_workdir", lambda *_: run)
    monkeypatch.setattr(command.setting_flags, "run_config", lambda _: run.config)
    with flagsaver.flagsaver():
        command.define_flags()
        flags.FLAGS(["stories", f"--workdir={run.folder}", "--tasks=all"])
        command.main()
    out = capsys.readouterr().out
    assert "A title: 1 of 1 roles confirmed" in out and ">= 0.5" in out and "confirmed" in out

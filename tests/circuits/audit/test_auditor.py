"""The audit on a planted network: what is known to be the circuit is judged faithful, what is not is not."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.means import reference_activations
from circuits_jax.circuits.audit.auditor import STAGES, Auditor, _Examination, verdict_of
from circuits_jax.circuits.audit.real_code import Natural
from circuits_jax.circuits.audit.verdict import FAITHFUL, NO_BETTER, NOT_RUN, NOT_SHOWN
from circuits_jax.circuits.circuit import Calibration, Circuit, Node
from circuits_jax.circuits.planted import plant
from circuits_jax.config import AuditConfig, to_dict

pytestmark = [pytest.mark.computes, pytest.mark.slow]

CONFIG = AuditConfig(pairs=32, draws=4, natural=32)
PLANTED = plant("quotes", 5, 32, 32, 32)
KINDS = ("relabelled", "inverted", "memorised", "random weights", "shuffled weights")


def controls_of(edges, moved="missed"):
    """As many draws of each kind with so many edges: full controls from three on."""
    rows = [
        {"kind": kind, "draw": draw, "edges": each, "outcome": "met", "pairs": 8}
        for kind in KINDS
        for draw, each in enumerate(edges)
    ]
    loss = {"missed": 0.7, "met": 0.1}[moved]
    choice = "full" if len(edges) >= 3 else "quick"
    return {
        "choice": choice,
        "target": 0.15,
        "rows": [*rows, {"kind": "moved", "draw": 0, "outcome": moved, "loss": loss}],
    }


CONTROLS = controls_of([1000] * 3)


@pytest.fixture(scope="module")
def auditor():
    """With the two devices that a machine of two cores has."""
    return Auditor(PLANTED.model, PLANTED.corpus, CONFIG, jax.devices()[:2])


@pytest.fixture(scope="module")
def means():
    found = reference_activations(PLANTED.model, PLANTED.corpus, "mean")
    return {site: np.asarray(mean) for site, mean in found.items()}


def circuit_of(nodes, means):
    """A circuit of these nodes and all weights between them, with the identity as calibration."""
    order = {node: i for i, node in enumerate(sorted(nodes))}
    nodes = tuple(order)
    return Circuit(
        task="quotes",
        nodes=nodes,
        edges=graph.edges_of(PLANTED.config, PLANTED.params, nodes),
        bias_only=(False,) * len(nodes),
        means=means,
        ablation="mean",
        embedding=(),
        unembedding=(),
        calibration=Calibration(1.0, 0.0),
        metrics={},
        model_config=to_dict(PLANTED.config),
        model_hash="",
        tokenizer_hash="",
        provenance={},
    )


def natural_of(pairs):
    """The pairs' own prompts as natural positions: the circuit must do there what it does on pairs."""
    rows = pairs.tokens.reshape(-1, pairs.tokens.shape[-1])
    second = np.tile([False, True], len(pairs.last))
    window = np.arange(len(second)) // 2
    return Natural(pairs.answers[0], rows, np.repeat(pairs.last, 2), second, window, 999, "it is a prompt")


def examine(auditor, circuit, controls=CONTROLS, natural="none were looked for"):
    report = auditor.audit(circuit, PLANTED.train, PLANTED.test, natural)
    report["controls"] = controls
    return report, verdict_of(report, circuit.ablation, CONFIG)


@pytest.fixture(scope="module")
def truth(auditor, means):
    return examine(auditor, circuit_of(PLANTED.nodes, means), natural=natural_of(PLANTED.test))


def test_the_planted_circuit_is_faithful(truth):
    report, verdict = truth
    assert (verdict.verdict, verdict.failed, verdict.close) == (FAITHFUL, (), ())
    assert all(criterion.passed and criterion.clear for criterion in verdict.criteria)
    assert set(report) == {"model", "controls", *STAGES}
    assert report["model"]["flag"] is None  # no one pruned it


def test_the_full_models_flag_is_the_one_of_select_pairs(auditor, means, truth):
    """Of a model that is good on test pairs, whose figure stays."""
    circuit = dataclasses.replace(
        circuit_of(PLANTED.nodes, means),
        metrics={"full/select/calibrated_loss": 0.2, "full/test/calibrated_loss": 0.01},
        provenance={"mediocre_model": True},
    )
    model = _Examination(auditor, circuit, PLANTED.train, PLANTED.test).full_model()
    assert (model["flag"], model["select_loss"]) == ("mediocre", 0.2)
    assert model["test"] == truth[0]["model"]["test"] and model["test"]["calibrated_loss"]["value"] < 0.15


def test_figures_lie_in_their_intervals(truth):
    def figures(value):
        if isinstance(value, dict):
            if {"value", "low", "high"} <= set(value):
                yield value
            for item in value.values():
                yield from figures(item)

    found = list(figures(truth[0]))
    assert len(found) > 25
    for figure in found:
        assert figure["low"] - 1e-9 <= figure["value"] <= figure["high"] + 1e-9


def test_nothing_is_swapped_twice(auditor, means, monkeypatch):
    asked, swapped = [], auditor.run.swapped

    def counted(params, masks, donors, pairs, donor_params=None):
        arrays = (np.asarray(x).tobytes() for x in (*masks.values(), *donors))
        asked.append([id(params), id(donor_params), *arrays])
        return swapped(params, masks, donors, pairs, donor_params)

    monkeypatch.setattr(auditor.run, "swapped", counted)
    examination = _Examination(auditor, circuit_of(PLANTED.nodes, means), PLANTED.train, PLANTED.test)
    report = examination.references(), examination.interchange()
    assert len(asked) == len(set(map(tuple, asked))) == 5
    flips = examination.by_pair["flips, circuit"]
    assert report[1]["circuit"]["value"] == flips.mean() == 1


def test_templates_are_told_one_by_one(auditor, means):
    """Two templates, half of the pairs each: their figures average to the whole's."""
    halves = dataclasses.replace(PLANTED.test, template=np.arange(len(PLANTED.test.last)) % 2)
    report = auditor.audit(circuit_of(PLANTED.nodes, means), PLANTED.train, halves, "none")
    rows = report["templates"]
    assert [row["template"] for row in rows] == [0, 1]
    assert [row["prompt"] for row in rows] == [halves.texts[0][0], halves.texts[1][0]]
    for name, figure in {
        "model": report["model"]["test"]["calibrated_loss"],
        "sufficiency": report["circuit"]["test"]["calibrated_loss"],
        "necessity": report["references"]["mean"]["necessity"],
        "flips, circuit": report["interchange"]["circuit"],
        "flips, outside": report["interchange"]["outside"],
    }.items():
        assert np.mean([row[name] for row in rows]) == pytest.approx(figure["value"])
    # Of two templates, rates of 0 and 1 leave nearly everything possible, and the verdict says so.
    close = verdict_of(report | {"controls": CONTROLS}, "mean", CONFIG).close
    assert close == ("the answer follows the circuit", "the answer ignores the rest")


@pytest.mark.parametrize(
    ("controls", "verdict"),
    [
        (lambda edges: controls_of([3 * edges] * 3), FAITHFUL),
        (lambda edges: controls_of([3 * edges - 1] * 3), NO_BETTER),
        (lambda edges: controls_of([edges, 9 * edges, 9 * edges]), NO_BETTER),  # one draw wins
        (lambda edges: controls_of([2 * edges, 3 * edges, 9 * edges]), FAITHFUL),
        (lambda edges: controls_of([3 * edges]), NOT_RUN),
        (lambda edges: controls_of([2 * edges]), NOT_SHOWN),
        (lambda edges: controls_of([9 * edges] * 3, moved="met"), NOT_SHOWN),
        (lambda edges: None, NOT_RUN),
    ],
)
def test_the_planted_circuit_is_faithful_only_with_better_controls(truth, controls, verdict):
    report, _ = truth
    found = verdict_of({**report, "controls": controls(len(PLANTED.edges))}, "mean", CONFIG)
    assert found.verdict == verdict
    assert found.failed or verdict in (FAITHFUL, NOT_RUN)


def test_a_circuit_that_misses_its_target_counts_as_all_edges(truth, auditor, means):
    everything = graph.count_edges(PLANTED.config, PLANTED.params)
    missing = dataclasses.replace(
        circuit_of(PLANTED.nodes, means),
        provenance={"met_target": False},
        metrics={"select/calibrated_loss": 0.2},
    )
    alone = _Examination(auditor, missing, PLANTED.train, PLANTED.test).circuit_alone()
    assert alone["edges"] == truth[0]["circuit"]["counted_edges"] == len(PLANTED.edges) < everything
    assert (alone["missed"], alone["counted_edges"]) == (0.2, everything)
    report = truth[0] | {"circuit": alone, "controls": controls_of([3 * len(PLANTED.edges)] * 3)}
    assert verdict_of(report, "mean", CONFIG).verdict == NO_BETTER


def test_whatever_the_reference_the_planted_circuit_is_enough_and_needed(truth):
    for name, figures in truth[0]["references"].items():
        assert figures["sufficiency"]["value"] < 0.15, name
        assert figures["necessity"]["value"] > 0.5, name


def test_the_planted_circuit_loses_with_the_model(truth):
    parts = truth[0]["completeness"]["parts"]
    assert [part["removed"] for part in parts][0] == 1 and len(parts) == CONFIG.draws
    assert truth[0]["completeness"]["gap"] < 0.05


def test_the_planted_circuit_needs_no_competitors(truth):
    held = truth[0]["circuit"]["constant_competitors"]
    assert held["recalibrated_loss"]["value"] < 0.15
    assert held["accuracy"]["value"] == 1


def test_random_circuits_of_its_size_are_nothing(truth):
    for name in ("random", "matched"):
        assert len(truth[0]["baselines"][name]["sufficiency"]["draws"]) == CONFIG.draws
        assert truth[0]["baselines"][name]["sufficiency"]["value"] > 0.5
        assert truth[0]["baselines"][name]["jaccard"] < 0.4


def test_natural_positions_that_are_prompts_are_answered_as_prompts(truth):
    report = truth[0]
    for part, natural in (("model", "model"), ("circuit", "circuit")):
        on_pairs, here = report[part]["test"], report["natural"][natural]
        for name in ("loss", "calibrated_loss", "accuracy"):
            assert here[name]["value"] == pytest.approx(on_pairs[name]["value"], abs=1e-5)
    assert report["natural"]["second_answer"] == 0.5


@pytest.mark.slow
def test_the_order_of_a_circuits_sites_decides_nothing(auditor, truth, means):
    """A file of arrays keeps none."""
    circuit = circuit_of(PLANTED.nodes, dict(reversed(means.items())))
    report, _ = examine(auditor, circuit, natural=natural_of(PLANTED.test))
    assert report == truth[0]


def test_a_circuit_with_a_node_left_out_is_not_sufficient(auditor, means):
    last = max(PLANTED.nodes)
    _, verdict = examine(auditor, circuit_of(set(PLANTED.nodes) - {last}, means))
    assert verdict.verdict == NOT_SHOWN and "sufficient" in verdict.failed


@pytest.mark.slow
def test_a_circuit_with_an_edge_left_out_is_not_sufficient_but_still_necessary(auditor, means):
    whole = circuit_of(PLANTED.nodes, means)
    _, verdict = examine(auditor, dataclasses.replace(whole, edges=whole.edges[:-1]))
    assert verdict.verdict == NOT_SHOWN and verdict.failed == ("sufficient",)


@pytest.mark.slow
def test_a_random_circuit_of_equal_size_shows_nothing(auditor, means):
    rng = np.random.default_rng(0)
    sites = sorted(site for site in means if not site.endswith("attn.y"))
    nodes = set()
    while len(nodes) < len(PLANTED.nodes):
        site = sites[rng.integers(len(sites))]
        node = Node(site, int(rng.integers(len(means[site]))))
        nodes |= {node} - set(PLANTED.nodes)
    report, verdict = examine(auditor, circuit_of(nodes, means))
    assert verdict.verdict == NOT_SHOWN
    assert {"sufficient", "necessary", "the answer follows the circuit"} <= set(verdict.failed)
    assert report["circuit"]["test"]["calibrated_loss"]["value"] > 0.9 * math.log(2)


def test_the_whole_network_is_no_circuit(auditor, means):
    """It is enough, needed and followed; only the controls tell that it explains nothing."""
    every = {Node(s, i) for s, mean in means.items() if not s.endswith("attn.y") for i in range(len(mean))}
    _, verdict = examine(auditor, circuit_of(every, means))
    assert verdict.verdict == NO_BETTER

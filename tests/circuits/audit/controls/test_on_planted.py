"""Full controls on planted networks: what is known to be the circuit is faithful, what is nothing is not.

With the real search.  One control wins on purpose.
"""

import dataclasses

import jax
import numpy as np
import pytest

from circuits_jax.circuits.audit.auditor import Auditor, verdict_of
from circuits_jax.circuits.audit.controls import kinds, weights
from circuits_jax.circuits.audit.controls.running import ControlRuns, draws_of
from circuits_jax.circuits.audit.verdict import FAITHFUL, NO_BETTER, NOT_SHOWN
from circuits_jax.circuits.planted import plant
from circuits_jax.config import AuditConfig, PruneConfig
from circuits_jax.model.parameters import UNEMBEDDING, get
from tests.circuits.audit.controls.cases import pruned_case

pytestmark = [pytest.mark.computes, pytest.mark.slow]

PLANTED = plant("quotes", 0, 128, 64, 64)
CONFIG = AuditConfig(pairs=64, draws=4, natural=32)
PRUNE = PruneConfig(steps=10, batch_pairs=16, importance_nodes=0)


def judged(model, prune, folder, choice="full"):
    """(the circuit that pruning finds in a model, the verdict with controls, their rows)."""
    case, pruner = pruned_case(PLANTED, model, prune)
    circuit = case.circuit
    rows = ControlRuns(case, pruner, folder).run(draws_of(choice, CONFIG), show=False)
    auditor = Auditor(model, PLANTED.corpus, CONFIG, jax.devices()[:1])
    report = auditor.audit(circuit, PLANTED.train, PLANTED.test, "none were looked for")
    report["controls"] = {"choice": choice, "target": prune.target, "rows": rows}
    return circuit, verdict_of(report, "mean", CONFIG), rows


def read_by_answers_only():
    """The planted network with no other token's logit: distractors that follow the circuit say nothing."""
    others = np.setdiff1d(np.arange(PLANTED.config.vocab_size), PLANTED.train.answers)
    params = jax.tree.map(np.array, PLANTED.params)
    get(params, UNEMBEDDING)[:, others] = 0
    return dataclasses.replace(PLANTED.model, params=params)


def test_the_planted_circuit_is_faithful_by_full_controls(tmp_path):
    circuit, verdict, rows = judged(read_by_answers_only(), PRUNE, tmp_path)
    assert (verdict.verdict, verdict.failed) == (FAITHFUL, ()), (verdict, rows)
    assert len(circuit.edges) == len(PLANTED.edges)
    for kind in kinds.SEARCHED:
        assert len(kinds.rows_of(rows, kind)) >= 3
        assert min(row["edges"] for row in kinds.rows_of(rows, kind)) > len(circuit.edges)


def test_where_all_tokens_follow_the_circuit_relabelled_answers_take_hardly_more_edges(tmp_path):
    circuit, verdict, rows = judged(PLANTED.model, PRUNE, tmp_path, "quick")
    assert verdict.verdict in (NOT_SHOWN, NO_BETTER), (verdict, rows)
    assert verdict.failed == ("fewer edges than the relabelled controls",)
    (found,) = kinds.rows_of(rows, kinds.RELABELLED)
    assert found["outcome"] == kinds.MET and found["edges"] < 1.5 * len(circuit.edges)
    # One draw alone decides only if it takes no more edges at all.
    assert (verdict.verdict == NO_BETTER) == (found["edges"] <= len(circuit.edges))


def test_what_is_found_in_a_network_that_knows_nothing_is_not_faithful(tmp_path):
    model = weights.random_weights(PLANTED.model, 7)
    _, verdict, rows = judged(model, PRUNE, tmp_path, "quick")
    assert verdict.verdict in (NOT_SHOWN, NO_BETTER), (verdict, rows)
    assert any(name.startswith("fewer edges") for name in verdict.failed)


def test_where_hardly_anything_has_to_be_known_other_answers_take_no_more_edges(tmp_path):
    """By the median of full controls: relabelled answers win, and the circuit is no better."""
    loose = dataclasses.replace(PRUNE, target=0.6, slack=1.0)
    circuit, verdict, rows = judged(PLANTED.model, loose, tmp_path)
    assert verdict.verdict == NO_BETTER, (verdict, rows)
    assert "fewer edges than the relabelled controls" in verdict.failed
    relabelled = [row["edges"] for row in kinds.rows_of(rows, kinds.RELABELLED)]
    assert np.median(relabelled) <= len(circuit.edges)

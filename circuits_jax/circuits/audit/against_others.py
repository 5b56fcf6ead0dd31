"""What an audit compares a circuit with besides controls: random circuits and edges, the field's methods."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.means import Subject, means_of, reference_sites
from circuits_jax.circuits.ablation.pairs import pair_batches
from circuits_jax.circuits.audit.auditor import Auditor
from circuits_jax.circuits.audit.hypotheses.circuit_tests import CircuitTests, Judged, all_tests
from circuits_jax.circuits.audit.kept import Keep
from circuits_jax.circuits.audit.size_curves import SizeCurves
from circuits_jax.circuits.baselines import ScoreSettings
from circuits_jax.circuits.baselines.edge_network import why_not_measured
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.model import sites
from circuits_jax.storage.tables import Report
from circuits_jax.tasks.task import Pairs


def curves_and_tests(
    auditor: Auditor, circuit: Circuit, train: Pairs, test: Pairs, thorough: bool, keep: Keep
) -> Report:
    """{"curves", "tests", "not_compared": why a model of too many edges has neither} of a report.

    Args:
      auditor: Of the circuit's model.
      circuit: The circuit.
      train: The pairs it was cut on; orders of edges are found on the first of them.
      test: The pairs it is judged on.
      thorough: Whether what takes long is done too.
      keep: Keeps parts.
    """
    config, run, model = auditor.config, auditor.run, auditor.model
    why = why_not_measured(graph.count_edges(model.config, jax.tree.map(np.asarray, dict(model.params))))
    if why is not None:
        return {"curves": None, "tests": None, "not_compared": why}
    learnt, judged = pair_batches([train, test], model.config.n_ctx)
    subject = Subject(model, means_of(circuit, model, lambda: auditor.corpus))
    # Nothing is removed: the circuit's means stand for any, and those of the corpus need not be taken.
    differences = run.ablated(model.device_params, auditor.everything, circuit.means, learnt)
    (scale,), (shift,) = run.calibrated(differences)
    own = circuit.calibration.scale, circuit.calibration.shift
    tests = CircuitTests(
        circuit, subject, run, Judged(judged, test.template, own, (float(scale), float(shift))), config
    )
    settings = ScoreSettings.of(config)
    means = subject if circuit.ablation == "mean" else Subject(model, _of(auditor, circuit, auditor.means))
    curves = SizeCurves(circuit, means, learnt.first(config.score_pairs), judged, settings)
    made = {"tests": all_tests(tests, thorough, keep), "curves": curves.report(thorough, keep)}
    return made | {"not_compared": None}


def _of(auditor: Auditor, circuit: Circuit, means: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `means` that a circuit has or should have."""
    wanted = reference_sites(auditor.model.config, sites.FINAL in circuit.means)
    return {site: means[site] for site in wanted}

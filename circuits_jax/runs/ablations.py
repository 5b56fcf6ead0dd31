"""Circuits under several ablations: pruned anew under each, and each judged under all of them.

What removed nodes are held at decides which circuit is found and how well it does, so sizes under different
ablations are not sizes of the same thing (docs/method.md, "Ablation").
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from circuits_jax.circuits.ablation.donors import pairs_under
from circuits_jax.circuits.ablation.means import Subject
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.circuits.pruning.ablator import EDGES
from circuits_jax.circuits.pruning.assembly import measured
from circuits_jax.circuits.pruning.jobs import Splits
from circuits_jax.config import ABLATIONS, PruneConfig
from circuits_jax.config.checks import check_choice
from circuits_jax.runs.pruning import prune_tasks, settings_for, subject_of, task_splits
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.filenames import ABLATIONS_FOLDER
from circuits_jax.storage.tables import Report
from circuits_jax.tasks import Task
from circuits_jax.training.device_memory import PRUNING, memory_told

if TYPE_CHECKING:
    from circuits_jax.runs.run import Run


def compare_ablations(
    run: "Run", tasks: Sequence[Task], prune: PruneConfig, ablations: Sequence[str]
) -> list[Report]:
    """One row for each task and ablation that it was pruned under.

    Circuits that are there already are kept, and those of the configured ablation are the run's own.

    Args:
      run: With a workdir and a corpus.
      tasks: Of different names.
      prune: How to prune, but for the ablation.
      ablations: Of ABLATIONS, or "all" alone.

    Returns:
      Rows of "task", "pruned under", "nodes", "edges", "target" (met or missed, on select pairs under that
      ablation), and for each ablation the calibrated losses on test pairs of the circuit "alone" and of the
      full model "without" it; or of "task", "pruned under" and "refused".

    Raises:
      ConfigError: for no ablation, or an unknown one.
    """
    kinds = ABLATIONS if list(ablations) == ["all"] else tuple(dict.fromkeys(ablations))
    if not kinds:
        raise ConfigError(f"no ablation is named; give some of {', '.join(ABLATIONS)}, or all")
    for kind in kinds:
        check_choice("ablations", kind, ABLATIONS)
    settings = {kind: dataclasses.replace(prune, ablation=kind) for kind in kinds}
    cut = {
        kind: prune_tasks(
            run, tasks, each, folder=None if kind == prune.ablation else run.folder / ABLATIONS_FOLDER / kind
        )
        for kind, each in settings.items()
    }
    subjects = {kind: subject_of(run, settings_for(run, tasks, each)) for kind, each in settings.items()}
    rows: list[Report] = []
    with memory_told(PRUNING):
        for place, task in enumerate(tasks):
            for kind in kinds:
                outcome = cut[kind][place]
                row: Report = {"task": task.name, "pruned under": kind}
                if outcome.circuit is None:
                    row["refused"] = outcome.refusal or ""
                else:
                    row |= _judged(outcome.circuit, subjects, prune, task_splits(run, task, prune))
                rows.append(row)
    return rows


def _judged(circuit: Circuit, subjects: Mapping[str, Subject], prune: PruneConfig, splits: Splits) -> Report:
    """A circuit's size, and its losses under each ablation."""
    row: Report = {
        "nodes": len(circuit.nodes),
        "edges": len(circuit.edges),
        "target": "met" if circuit.provenance["met_target"] else "missed",
    }
    without: Report = {}
    edges = {(circuit.nodes[edge.source], circuit.nodes[edge.target]) for edge in circuit.edges}
    for kind, subject in subjects.items():
        pairs = pairs_under(kind, splits, subject.model.config.n_ctx, prune.seed)
        found = measured(subject, circuit.masks(), edges, prune, pairs)
        row[f"alone, {kind}"] = found.figures["test/calibrated_loss"]
        whole = found.ablator.whole
        rest = {site: mask - found.variant[site] for site, mask in whole.items() if site != EDGES}
        differences = found.ablator.differences([{**rest, EDGES: whole[EDGES]}], pairs[-1])
        (without[f"without, {kind}"],) = found.ablator.fitted_losses(differences)
    return row | without

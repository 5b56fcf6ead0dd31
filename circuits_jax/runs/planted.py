"""Does pruning find circuits that are known?  Precision and recall on planted networks, nodes and edges."""

import dataclasses
import time

import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.means import Subject, reference_activations
from circuits_jax.circuits.circuit import Edge, Node
from circuits_jax.circuits.planted import DESIGNS, Planted, Wiring, plant, score
from circuits_jax.circuits.pruning.assembly import make_circuit
from circuits_jax.circuits.pruning.nodes import Pruner
from circuits_jax.config import PruneConfig
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.tables import Row

_SCORES = ("node_precision", "node_recall", "edge_precision", "edge_recall")


def recover(planted: Planted, subject: Subject, seed: int, pruner: Pruner) -> Row:
    """Prunes one planted network, nodes and then edges, and scores what is left after each."""
    began = time.perf_counter()
    pruned = pruner.prune(planted.splits, seed)
    prune = dataclasses.replace(pruner.config, importance_nodes=0)
    circuit = make_circuit(pruned, subject, prune, planted.splits)
    seconds = time.perf_counter() - began
    before = graph.nodes_of(planted.config, pruned.masks)
    edges_before = graph.edges_of(planted.config, planted.params, before)
    scores_before = score(planted, before, _ends(before, edges_before))
    return {
        "circuit": planted.name,
        "seed": seed,
        "planted nodes": len(planted.nodes),
        "planted edges": len(planted.edges),
        "nodes": len(circuit.nodes),
        "edges": len(circuit.edges),
        **dataclasses.asdict(score(planted, circuit.nodes, _ends(circuit.nodes, circuit.edges))),
        "test_loss": circuit.metrics["test/calibrated_loss"],
        "nodes_before_edges": len(before),
        "edges_before": len(edges_before),
        **{f"{name}_before_edges": value for name, value in dataclasses.asdict(scores_before).items()},
        "seconds": round(seconds, 1),
    }


def _ends(nodes: tuple[Node, ...], edges: tuple[Edge, ...]) -> list[tuple[Node, Node]]:
    return [(nodes[edge.source], nodes[edge.target]) for edge in edges]


def benchmark(prune: PruneConfig, seeds: int, superposed: bool = True) -> list[Row]:
    """One row a network.  All share one compilation, which the first row's seconds include.

    Args:
      prune: Settings.
      seeds: Networks of each circuit.
      superposed: Whether distractors share the circuits' channels.

    Raises:
      ConfigError: for nodes at the final residual stream, of which nothing was planted.
    """
    if prune.final_resid:
        raise ConfigError("prune.final_resid is on; what was planted has no nodes there: leave it off")
    pruner, rows = None, []
    for name in DESIGNS:
        for seed in range(seeds):
            sizes = (prune.train_pairs, prune.select_pairs, prune.test_pairs)
            planted = plant(name, seed, *sizes, Wiring(superposed=superposed))
            means = reference_activations(planted.model, planted.corpus, prune.ablation)
            subject = Subject(planted.model, means)
            if pruner is None:
                pruner = Pruner(subject, prune)
            rows.append(recover(planted, subject, seed, pruner.on(subject)))
    return rows


def summarize(rows: list[Row]) -> Row:
    """Mean and least of each score, per circuit."""
    lines: Row = {}
    figures = (*_SCORES, *(f"{what}_before_edges" for what in _SCORES), "seconds")
    for name in DESIGNS:
        for what in figures:
            values = [float(row[what]) for row in rows if row["circuit"] == name]
            worst = max(values) if what == "seconds" else min(values)
            lines[f"{name} {what}, mean and worst"] = f"{np.mean(values):.3f} {worst:.3f}"
    return lines

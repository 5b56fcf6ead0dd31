"""From the nodes that pruning kept to a circuit as data: its edges pruned, its parts weighed, measured."""

import importlib.metadata
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.edge_removal import edge_set, without_edges
from circuits_jax.circuits.ablation.means import Subject
from circuits_jax.circuits.ablation.pairs import pair_batches
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.circuits.pruning.ablator import EDGES, Ablator
from circuits_jax.circuits.pruning.edges import prune_edges
from circuits_jax.circuits.pruning.importance import measure_importance
from circuits_jax.circuits.pruning.jobs import Pruned, Splits
from circuits_jax.config import PruneConfig, to_dict


def make_circuit(pruned: Pruned, subject: Subject, prune: PruneConfig, splits: Splits) -> Circuit:
    """The circuit of `pruned` with its edges pruned, its importance, constants, figures and provenance.

    Args:
      pruned: What node pruning found.
      subject: The model it was found in, and what removed nodes are held at and removed edges carry.
      prune: How it was found, and how edges are pruned.
      splits: The task's pairs; edges, calibration and importance are of the training pairs.
    """
    model = subject.model
    config, host = model.config, jax.tree.map(np.asarray, model.params)
    answers = np.unique(splits.train.answers)
    data, *others = pair_batches(splits, config.n_ctx)
    pruned_edges = prune_edges(subject, pruned.masks, prune, data, answers)
    nodes = graph.nodes_of(config, pruned_edges.masks)
    every = graph.edges_of(config, host, nodes)
    stays = np.array([(nodes[e.source], nodes[e.target]) in pruned_edges.edges for e in every], bool)
    ablator = Ablator(subject, edge_set(config, nodes, every), prune)
    kept = np.zeros_like(ablator.whole[EDGES])
    kept[: len(every)] = stays
    variant = {**pruned_edges.masks, EDGES: kept}
    calibration, figures = ablator.measure(variant, data, *others)
    weighed = measure_importance(
        ablator,
        (variant, calibration),
        ablator.calibrate(ablator.whole, data),
        data.first(prune.importance_pairs),
        prune.importance_nodes,
        prune.seed,
    )
    left = tuple(edge for edge, kept in zip(every, stays, strict=True) if kept)
    gone = [edge for edge, kept in zip(every, stays, strict=True) if not kept]
    live = graph.reached(config, without_edges(config, host, nodes, gone), pruned_edges.masks)
    before = graph.nodes_of(config, pruned.masks)
    counts = {
        "nodes_before_edges": len(before),
        "edges_before": len(graph.edges_of(config, host, before)),
        "nodes": len(nodes),
        "edges": len(left),
    }
    return Circuit(
        task=splits.train.task,
        nodes=nodes,
        edges=left,
        bias_only=tuple(not bool(live[node.site][node.index]) for node in nodes),
        means={site: np.asarray(mean, np.float32) for site, mean in subject.means.items()},
        ablation=prune.ablation,
        embedding=graph.embedding_entries(config, host, nodes),
        unembedding=graph.unembedding_entries(config, host, nodes, answers),
        calibration=calibration,
        metrics={**pruned.metrics, **figures, **{name: float(count) for name, count in counts.items()}},
        model_config=to_dict(config),
        model_hash=model.hash,
        tokenizer_hash="" if model.tokenizer is None else model.tokenizer.hash,
        provenance=_provenance(pruned, prune, splits, figures),
        importance=weighed,
        taus=None if pruned.taus is None else {site: np.asarray(tau) for site, tau in pruned.taus.items()},
    )


def _provenance(
    pruned: Pruned, prune: PruneConfig, splits: Splits, figures: Mapping[str, float]
) -> dict[str, Any]:
    return {
        "prune": to_dict(prune),
        "met_target": figures["select/calibrated_loss"] <= prune.target,
        "mediocre_model": pruned.mediocre,
        "pairs_survived": splits.train.survived,
        "pairs": [pairs.digest for pairs in splits],
        "history": [list(look) for look in pruned.history],
        "versions": {name: importlib.metadata.version(name) for name in ("circuits_jax", "jax", "optax")},
    }

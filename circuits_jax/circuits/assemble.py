"""From the nodes that pruning kept to a circuit as data: its edges pruned, its parts weighed, measured."""

import importlib.metadata
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation import pair_arrays
from circuits_jax.circuits.ablator import EDGES, Ablator
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.circuits.edge_pruning import prune_edges
from circuits_jax.circuits.edges import edge_set, without_edges
from circuits_jax.circuits.importance import measure_importance
from circuits_jax.circuits.pruned import Pruned
from circuits_jax.config import PruneConfig, to_dict
from circuits_jax.model.fingerprint import model_hash
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.tasks.task import Pairs


def make_circuit(
    pruned: Pruned,
    model: Transformer,
    params: Params,
    means: Mapping[str, jax.Array],
    prune: PruneConfig,
    train: Pairs,
    heldout: Pairs,
    tokenizer_hash: str,
) -> Circuit:
    """The circuit of `pruned` with its edges pruned, its importance, constants, figures and provenance.

    Args:
      pruned: What node pruning found.
      model, params: What it was found in.
      means: What removed nodes are held at and removed edges carry (`ablation.reference_activations`).
      prune: How it was found, and how edges are pruned.
      train, heldout: The task's pairs; edges, calibration and importance are of the training pairs.
      tokenizer_hash: Of the tokenizer the pairs were made with.
    """
    config, host = model.config, jax.tree.map(np.asarray, params)
    answers = np.unique(train.answers)
    data, unseen = pair_arrays([train, heldout], config.n_ctx)
    sharpened = prune_edges(model, params, means, pruned.masks, prune, data, answers)
    nodes = graph.nodes_of(config, sharpened.masks)
    every = graph.edges_of(config, host, nodes)
    stays = np.array([(nodes[e.source], nodes[e.target]) in sharpened.edges for e in every], bool)
    ablator = Ablator(model, params, means, edge_set(config, nodes, every), prune)
    kept = np.zeros_like(ablator.whole[EDGES])
    kept[: len(every)] = stays
    variant = {**sharpened.masks, EDGES: kept}
    calibration, figures = ablator.measure(variant, data, unseen)
    weighed = measure_importance(
        ablator,
        (variant, calibration),
        ablator.calibrate(ablator.whole, data),
        tuple(x[: prune.importance_pairs] for x in data),
        prune.importance_nodes,
        prune.seed,
    )
    left = tuple(edge for edge, kept in zip(every, stays, strict=True) if kept)
    gone = [edge for edge, kept in zip(every, stays, strict=True) if not kept]
    live = graph.reached(config, without_edges(config, host, nodes, gone), sharpened.masks)
    before = graph.nodes_of(config, pruned.masks)
    counts = {
        "nodes_before_edges": len(before),
        "edges_before": len(graph.edges_of(config, host, before)),
        "nodes": len(nodes),
        "edges": len(left),
    }
    return Circuit(
        task=train.task,
        nodes=nodes,
        edges=left,
        bias_only=tuple(not bool(live[node.site][node.index]) for node in nodes),
        means={site: np.asarray(mean, np.float32) for site, mean in means.items()},
        ablation=prune.ablation,
        embedding=graph.embedding_entries(config, host, nodes),
        unembedding=graph.unembedding_entries(config, host, nodes, answers),
        calibration=calibration,
        metrics={**pruned.metrics, **figures, **{name: float(count) for name, count in counts.items()}},
        model_config=to_dict(config),
        model_hash=model_hash(config, host),
        tokenizer_hash=tokenizer_hash,
        provenance=_provenance(pruned, prune, (train, heldout), figures),
        importance=weighed,
    )


def _provenance(
    pruned: Pruned, prune: PruneConfig, pairs: tuple[Pairs, Pairs], figures: Mapping[str, float]
) -> dict[str, Any]:
    return {
        "prune": to_dict(prune),
        "met_target": figures["heldout/calibrated_loss"] <= prune.target,
        "mediocre_model": pruned.mediocre,
        "pairs_survived": pairs[0].survived,
        "pairs": [split.digest for split in pairs],
        "history": [list(look) for look in pruned.history],
        "versions": {name: importlib.metadata.version(name) for name in ("circuits_jax", "jax", "optax")},
    }

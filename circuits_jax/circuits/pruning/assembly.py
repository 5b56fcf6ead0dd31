"""From the nodes that pruning kept to a circuit as data: its edges pruned, its parts weighed, measured."""

import dataclasses
import importlib.metadata
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.donors import AnyPairs, pairs_under
from circuits_jax.circuits.ablation.edge_removal import edge_set, without_edges
from circuits_jax.circuits.ablation.means import Subject
from circuits_jax.circuits.circuit import Calibration, Circuit, Edge, Node
from circuits_jax.circuits.masks import Masks
from circuits_jax.circuits.pruning.ablator import EDGES, Ablator
from circuits_jax.circuits.pruning.edges import prune_edges
from circuits_jax.circuits.pruning.importance import measure_importance
from circuits_jax.circuits.pruning.jobs import Pruned, Splits, judged_by
from circuits_jax.config import PruneConfig, to_dict


@dataclasses.dataclass(frozen=True, eq=False)
class EdgesChosen:
    """The nodes that pruning kept, with the edges between them that were chosen, measured.

    Attributes:
      nodes: Kept nodes.
      every: All nonzero weights between them.
      kept: Of each, whether it is kept: bool [every].
      ablator: Of the model and these edges.
      variant: What of the ablator's model is kept.
      calibration: Fitted on the training pairs.
      figures: Of the three splits.
    """

    nodes: tuple[Node, ...]
    every: tuple[Edge, ...]
    kept: np.ndarray
    ablator: Ablator
    variant: Masks
    calibration: Calibration
    figures: dict[str, float]

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The kept ones."""
        return tuple(edge for edge, kept in zip(self.every, self.kept, strict=True) if kept)


def choose_edges(pruned: Pruned, subject: Subject, prune: PruneConfig, splits: Splits) -> EdgesChosen:
    """Prunes the edges of `pruned`, unless it was given up; the arguments are those of `make_circuit`."""
    config = subject.model.config
    pairs = pairs_under(prune.ablation, splits, config.n_ctx, prune.seed)
    masks = pruned.masks
    edges = None
    if not pruned.given_up:
        answers = np.unique(splits.train.answers)
        by = judged_by(prune, pairs[0], pairs[1], pruned.metrics)
        found = prune_edges(subject, masks, prune, by, answers)
        masks, edges = found.masks, found.edges
    return measured(subject, masks, edges, prune, pairs)


def measured(
    subject: Subject,
    masks: Masks,
    edges: Collection[tuple[Node, Node]] | None,
    prune: PruneConfig,
    splits: Sequence[AnyPairs],
) -> EdgesChosen:
    """A circuit of these nodes and edges, calibrated on the first of the three splits.

    Args:
      subject: The model, and what removed nodes are held at and removed edges carry.
      masks: {node site: float32 [width]}, 1 on its nodes.
      edges: (source, target) of its edges; None for all between its nodes.
      prune: Batching.
      splits: Pairs to train, to select and to test by.
    """
    config, host = subject.model.config, jax.tree.map(np.asarray, subject.model.params)
    nodes = graph.nodes_of(config, masks)
    every = graph.edges_of(config, host, nodes)
    stays = np.array([edges is None or (nodes[e.source], nodes[e.target]) in edges for e in every], bool)
    ablator = Ablator(subject, edge_set(config, nodes, every), prune)
    kept = np.zeros_like(ablator.whole[EDGES])
    kept[: len(every)] = stays
    variant = {**masks, EDGES: kept}
    return EdgesChosen(nodes, every, stays, ablator, variant, *ablator.measure(variant, *splits))


def make_circuit(
    pruned: Pruned,
    subject: Subject,
    prune: PruneConfig,
    splits: Splits,
    chosen: EdgesChosen | None = None,
) -> Circuit:
    """The circuit of `pruned` with its edges pruned, its importance, constants, figures and provenance.

    A circuit whose search was given up has no importance: weighing hundreds of parts takes minutes, and says
    little of parts that solve the training pairs alone.

    Args:
      pruned: What node pruning found.
      subject: The model it was found in, and what removed nodes are held at and removed edges carry.
      prune: How it was found, and how edges are pruned.
      splits: The task's pairs; masks of edges, calibration and importance are of the training pairs.
      chosen: Its edges, if they are pruned already.
    """
    model = subject.model
    config, host = model.config, jax.tree.map(np.asarray, model.params)
    answers = np.unique(splits.train.answers)
    data = pairs_under(prune.ablation, splits, config.n_ctx, prune.seed)[0]
    found = chosen or choose_edges(pruned, subject, prune, splits)
    nodes, masks = found.nodes, {site: mask for site, mask in found.variant.items() if site != EDGES}
    weighed = None
    if not pruned.given_up:
        weighed = measure_importance(
            found.ablator,
            (found.variant, found.calibration),
            found.ablator.calibrate(found.ablator.whole, data),
            data.first(prune.importance_pairs),
            prune.importance_nodes,
            prune.seed,
        )
    gone = [edge for edge, kept in zip(found.every, found.kept, strict=True) if not kept]
    live = graph.reached(config, without_edges(config, host, nodes, gone), masks)
    before = graph.nodes_of(config, pruned.masks)
    counts = {
        "nodes_before_edges": len(before),
        "edges_before": len(graph.edges_of(config, host, before)),
        "nodes": len(nodes),
        "edges": len(found.edges),
    }
    return Circuit(
        task=splits.train.task,
        nodes=nodes,
        edges=found.edges,
        bias_only=tuple(not bool(live[node.site][node.index]) for node in nodes),
        means={site: np.asarray(mean, np.float32) for site, mean in subject.means.items()},
        ablation=prune.ablation,
        embedding=graph.embedding_entries(config, host, nodes),
        unembedding=graph.unembedding_entries(config, host, nodes, answers),
        calibration=found.calibration,
        metrics={
            **pruned.metrics,
            **found.figures,
            **{name: float(count) for name, count in counts.items()},
        },
        model_config=to_dict(config),
        model_hash=model.hash,
        tokenizer_hash="" if model.tokenizer is None else model.tokenizer.hash,
        provenance=_provenance(pruned, prune, splits, found.figures),
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
        "given_up": pruned.given_up,
        "pairs_survived": splits.train.survived,
        "pairs": [pairs.digest for pairs in splits],
        "precision": getattr(jax.config, "jax_default_matmul_precision", None) or "default",
        "history": [list(look) for look in pruned.history],
        "versions": {name: importlib.metadata.version(name) for name in ("circuits_jax", "jax", "optax")},
    }

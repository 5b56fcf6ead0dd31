"""How many circuits does a model have for one task?  Each is pruned without the nodes of those before it.

See docs/method.md, "Backup circuits".  A model often solves a task in more than one way, so a circuit that
holds the target is one of several until what is left of the model fails.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.donors import pairs_under
from circuits_jax.circuits.ablation.edge_removal import edge_set
from circuits_jax.circuits.ablation.means import Subject
from circuits_jax.circuits.circuit import Circuit, Edge, Node
from circuits_jax.circuits.masks import Masks, full_masks, size
from circuits_jax.circuits.pruning.ablator import EDGES, Ablator
from circuits_jax.circuits.pruning.assembly import make_circuit
from circuits_jax.circuits.pruning.jobs import Splits
from circuits_jax.circuits.pruning.nodes import Pruner
from circuits_jax.circuits.pruning.sweep import Progress, sweep
from circuits_jax.config import PruneConfig
from circuits_jax.storage.errors import TaskError
from circuits_jax.storage.tables import Report
from circuits_jax.tasks.metrics import right_margin

LEAST_SPAN = 0.5  # logits between the model and nothing, below which shares of it say nothing


def next_circuit(
    pruner: Pruner, splits: Splits, found: Sequence[Circuit], store: Path, progress: Progress
) -> Circuit | str:
    """The circuit of a task in what earlier ones leave of the model, or why there is none.

    Args:
      pruner: Of the model; its `config` says how to prune.
      splits: The task's pairs.
      found: The earlier circuits, whose nodes are banned.
      store: Folder for the scores of finished rungs of this very search.
      progress: Shows what happens.
    """
    prune, whole = pruner.config, pruner.subject
    subject = Subject(whole.model, whole.means, nodes_taken(whole, found) if found else None)
    ((_, each),) = sweep(pruner.on(subject), {splits.train.task: splits}, store, progress)
    if isinstance(each, TaskError):
        return str(each) if not found else f"without the nodes of these, {each}"
    loss = each.chosen.figures["select/calibrated_loss"]
    if loss > prune.target:
        rest = f"the other {size(subject.everything):,} nodes" if found else "all nodes"
        return f"the best circuit of {rest} has a loss of {loss:.3f} on select pairs, not {prune.target:.2f}"
    return make_circuit(each.pruned, subject, prune, splits, each.chosen)


def nodes_taken(subject: Subject, circuits: Sequence[Circuit]) -> Masks:
    """{node site: float32 [width], 1 on the nodes of any of `circuits`}."""
    taken = full_masks(subject.model.config, 0.0, subject.final)
    for circuit in circuits:
        for site, mask in circuit.masks().items():
            taken[site] = np.maximum(taken[site], mask)
    return taken


def shares(
    subject: Subject, circuits: Sequence[Circuit], prune: PruneConfig, splits: Splits
) -> tuple[list[Report], Report]:
    """What each of several disjoint circuits explains, alone and together with those before it.

    The share kept, f = (m(kept) - m(nothing)) / (m(model) - m(nothing)), is of the mean logit difference m on
    test pairs, uncalibrated; None where model and nothing differ by less than LEAST_SPAN.  The rise is of the
    task loss when the nodes are removed from the full model, both losses calibrated on those same pairs.

    Args:
      subject: The full model.
      circuits: Of one task, no node in two of them.
      prune: Batching.
      splits: The task's pairs.

    Returns:
      (a row for each circuit: "f", "f together", "rise", "rise together"; "m of the model", "m of nothing",
      "loss of the model").
    """
    parts = _Parts(subject, circuits, prune)
    count, n_ctx = len(circuits), subject.model.config.n_ctx
    test = pairs_under(prune.ablation, splits, n_ctx, prune.seed)[-1]
    alone, together = [[i] for i in range(count)], [list(range(i + 1)) for i in range(count)]
    variants = [parts.ablator.whole, parts.kept([]), *map(parts.kept, alone + together)]
    variants += [parts.removed(each) for each in alone + together]
    differences = parts.ablator.differences(variants, test)
    margins = np.asarray(right_margin(differences)).mean(axis=(1, 2))
    whole, nothing = float(margins[0]), float(margins[1])
    losses = parts.ablator.fitted_losses(differences)
    span = whole - nothing
    share = [float((m - nothing) / span) if abs(span) >= LEAST_SPAN else None for m in margins]
    rise = [loss - losses[0] for loss in losses]
    kept, gone = 2, 2 + 2 * count
    rows = [
        {
            "f": share[kept + i],
            "f together": share[kept + count + i],
            "rise": rise[gone + i],
            "rise together": rise[gone + count + i],
        }
        for i in range(count)
    ]
    return rows, {"m of the model": whole, "m of nothing": nothing, "loss of the model": losses[0]}


class _Parts:
    """Disjoint circuits in one network: some of them kept alone, or removed from the full model."""

    def __init__(self, subject: Subject, circuits: Sequence[Circuit], prune: PruneConfig):
        config, host = subject.model.config, jax.tree.map(np.asarray, subject.model.params)
        self._subject, self._circuits = subject, circuits
        self._nodes = graph.nodes_of(config, nodes_taken(subject, circuits))
        self._every: tuple[Edge, ...] = graph.edges_of(config, host, self._nodes)
        self.ablator = Ablator(subject, edge_set(config, self._nodes, self._every), prune)

    def kept(self, chosen: Sequence[int]) -> Masks:
        """Only those circuits, with only their own edges."""
        circuits = [self._circuits[i] for i in chosen]
        masks = nodes_taken(self._subject, circuits)
        own: set[tuple[Node, Node]] = {
            (circuit.nodes[edge.source], circuit.nodes[edge.target])
            for circuit in circuits
            for edge in circuit.edges
        }
        edges = self.ablator.whole[EDGES].copy()
        for place, edge in enumerate(self._every):
            source, target = self._nodes[edge.source], self._nodes[edge.target]
            # An edge that lost an end stays: what a removed node is held at goes through it.
            both = masks[source.site][source.index] and masks[target.site][target.index]
            edges[place] = not both or (source, target) in own
        return {**masks, EDGES: edges}

    def removed(self, chosen: Sequence[int]) -> Masks:
        """The full model without the nodes of those circuits."""
        taken = nodes_taken(self._subject, [self._circuits[i] for i in chosen])
        rest = {site: mask - taken[site] for site, mask in self._subject.everything.items()}
        return {**rest, EDGES: self.ablator.whole[EDGES]}

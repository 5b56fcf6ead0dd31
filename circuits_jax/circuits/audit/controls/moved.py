"""Circuits that should not solve a task: another task's, or a random one (docs/statistics.md, "Controls").

They are calibrated anew and not searched again.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.means import Means, Subject, has_means_of_edges
from circuits_jax.circuits.ablation.pairs import pair_batches
from circuits_jax.circuits.audit.random_circuits import draw_matched
from circuits_jax.circuits.circuit import Circuit, Node
from circuits_jax.circuits.masks import Masks, full_masks
from circuits_jax.circuits.pruning.assembly import measured
from circuits_jax.circuits.pruning.jobs import Splits
from circuits_jax.config import CONSTANT_ABLATIONS, ModelConfig, PruneConfig
from circuits_jax.model import sites
from circuits_jax.model.model import Model
from circuits_jax.model.transformer import Params
from circuits_jax.model.wiring import Wire, wires

TRIES = 2000  # exchanges of a node in the search for a random circuit with as many edges


class Parts(NamedTuple):
    """A circuit as what it keeps.

    Attributes:
      masks: {node site: float32 [width]}, 1 on its nodes.
      edges: (source, target) of its edges.
    """

    masks: Masks
    edges: frozenset[tuple[Node, Node]]


def parts_of(circuit: Circuit) -> Parts:
    """The nodes and edges of a circuit."""
    nodes = circuit.nodes
    return Parts(
        circuit.masks(), frozenset((nodes[edge.source], nodes[edge.target]) for edge in circuit.edges)
    )


def loss_of(model: Model, means: Means, parts: Parts, prune: PruneConfig, splits: Splits) -> float:
    """Task loss on select pairs of a circuit as it is, calibrated on training pairs."""
    batches = pair_batches(splits, model.config.n_ctx)
    figures = measured(Subject(model, means), parts.masks, parts.edges, prune, batches).figures
    return figures["select/calibrated_loss"]


def nearest(circuit: Circuit, answers: Collection[int], others: Sequence[Circuit]) -> Circuit | None:
    """Of the other circuits of the model that meet their targets, the one with most nearly as many edges.

    None of a task with the same answers: what it unembeds are at most the tokens `answers`.  None whose
    removed nodes take their values from other prompts: held at constants it misses even its own target.
    """
    fit = [
        other
        for other in others
        if other.task != circuit.task
        and other.ablation in CONSTANT_ABLATIONS
        and other.provenance.get("met_target") is True
        and not {entry.token for entry in other.unembedding} <= set(answers)
        and has_means_of_edges(other)
    ]
    return min(fit, key=lambda other: (abs(len(other.edges) - len(circuit.edges)), other.task), default=None)


def stand_in(config: ModelConfig, params: Params, like: Parts, seed: int) -> Parts:
    """A random circuit with as many nodes at each site as `like`, and on each wire as many edges.

    Random nodes are exchanged for others until there are weights enough between them; where TRIES exchanges
    do not lead there, it has as many edges as there are.

    Args:
      config, params: The network, on the host.
      like: A circuit of it.
      seed: Of the draw.
    """
    rng = np.random.RandomState(seed)
    final = sites.FINAL in like.masks
    drawn = draw_matched(full_masks(config, final=final), like.masks, 1, seed)
    masks = {site: mask[0].copy() for site, mask in drawn.items()}
    wanted = _on_wires(config, like.edges)
    joined = {wire: np.asarray(wire.weights(params)) != 0 for wire in wanted}

    def lacking() -> dict[Wire, float]:
        there = {wire: masks[wire.source] @ joined[wire] @ masks[wire.target] for wire in wanted}
        return {wire: wanted[wire] - there[wire] for wire in wanted if there[wire] < wanted[wire]}

    lacks = lacking()
    for _ in range(TRIES):
        if not lacks:
            break
        wire = list(lacks)[rng.randint(len(lacks))]
        at_source = rng.randint(2) == 0
        site, links = (
            (wire.source, joined[wire] @ masks[wire.target])
            if at_source
            else (wire.target, masks[wire.source] @ joined[wire])
        )
        before, outside = masks[site], 1 - masks[site]
        if not outside.any() or not before.any():
            continue
        weight = (links + 0.01) * outside
        masks[site] = before.copy()
        masks[site][rng.choice(np.flatnonzero(before))] = 0
        masks[site][rng.choice(len(weight), p=weight / weight.sum())] = 1
        found = lacking()
        if sum(found.values()) <= sum(lacks.values()):
            lacks = found
        else:
            masks[site] = before
    return Parts(masks, _some_edges(config, params, masks, wanted, rng))


def _on_wires(config: ModelConfig, edges: Collection[tuple[Node, Node]]) -> dict[Wire, int]:
    """How many of the edges lie on each wire."""
    ends = [(source.site, target.site) for source, target in edges]
    return {wire: ends.count((wire.source, wire.target)) for wire in wires(config.n_layer)}


def _some_edges(
    config: ModelConfig, params: Params, masks: Masks, wanted: dict[Wire, int], rng: np.random.RandomState
) -> frozenset[tuple[Node, Node]]:
    """Of the weights between the nodes, so many on each wire, at random."""
    nodes = graph.nodes_of(config, masks)
    every = [(nodes[e.source], nodes[e.target]) for e in graph.edges_of(config, params, nodes)]
    chosen: list[tuple[Node, Node]] = []
    for wire, count in wanted.items():
        here = [ends for ends in every if (ends[0].site, ends[1].site) == (wire.source, wire.target)]
        chosen += [here[place] for place in rng.permutation(len(here))[:count]]
    return frozenset(chosen)

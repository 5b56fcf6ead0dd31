"""What is known of a compiled program: its core and its slice, nodes and edges of each.

*Slice*: what the program computes on the way to the asked output, followed backwards through its own weights,
and whose value differs between inputs.  *Core*: what of it is needed: with one node or weight alone held at
its mean, the asked answer is wrong on some input.  A circuit should hold the core and nothing outside the
slice (docs/statistics.md, "Compiled programs").

Means are those over the inputs at each position, so what only tells positions apart is as it was when held,
and belongs to neither.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.edge_removal import edge_set
from circuits_jax.circuits.ablation.means import Subject, mean_activations, reference_sites
from circuits_jax.circuits.ablation.pairs import PairBatch
from circuits_jax.circuits.circuit import Edge, Node
from circuits_jax.circuits.masks import Masks, full_masks, without
from circuits_jax.circuits.planted.network import NodePair
from circuits_jax.circuits.pruning.ablator import EDGES, Ablator
from circuits_jax.circuits.rasp.network import GAIN, Network
from circuits_jax.config import PruneConfig
from circuits_jax.model.wiring import wires

VARIES = 1e-4  # by more than this a value differs between inputs; what compiled networks compute is rounded
TIE = 1e-3 * GAIN  # an answer that wins by less than this is no answer


@dataclasses.dataclass(frozen=True)
class PartSet:
    """Nodes and edges of a network: a truth, or what a method found."""

    nodes: frozenset[Node]
    edges: frozenset[NodePair]


@dataclasses.dataclass(frozen=True)
class Truth:
    """What a circuit is compared with.

    Attributes:
      core: What is needed.
      slice: What may be there; holds the core.
    """

    core: PartSet
    slice: PartSet


def subject_of(network: Network) -> Subject:
    """The network, and the means over its inputs at each position that removed parts are held at."""
    means = mean_activations(network.model, [network.inputs], by_position=True)
    return Subject(network.model, {site: np.asarray(mean) for site, mean in means.items()})


def truth_of(network: Network, subject: Subject, prune: PruneConfig) -> Truth:
    """Core and slice of the network's asked program.

    Args:
      network: The network.
      subject: Of `subject_of`.
      prune: Batching.
    """
    sliced = slice_of(network)
    return Truth(core=_core(network, subject, sliced, prune), slice=sliced)


def slice_of(network: Network) -> PartSet:
    """The backward slice from the two answers' logits, of what differs between inputs."""
    config, params = network.model.config, network.model.params
    _, records = network.model.apply(network.inputs, record=tuple(reference_sites(config)))
    varies = {site: np.ptp(np.asarray(x), axis=0).max(axis=0) > VARIES for site, x in records.items()}
    leads = graph.useful(config, params, full_masks(config), network.answers)
    nodes = {
        Node(site, int(index))
        for site, flags in leads.items()
        for index in np.flatnonzero(flags & varies[site])
    }
    edges = set()
    for wire in wires(config.n_layer):
        # A value channel may be constant and yet carry something: how much of it attention lets through.
        used = leads[wire.target] & varies[wire.carried][:, None] & (np.asarray(wire.weights(params)) != 0)
        edges |= {(Node(wire.source, int(i)), Node(wire.target, int(j))) for i, j in np.argwhere(used)}
    return PartSet(frozenset(nodes), frozenset(edges))


def _core(network: Network, subject: Subject, sliced: PartSet, prune: PruneConfig) -> PartSet:
    """What of the slice is needed by itself; what lies outside is constant or leads nowhere."""
    every, edges = every_part(network)
    ablator = Ablator(subject, edge_set(network.model.config, every, edges), prune)
    pairs = network.pairs(len(network.inputs), 0)
    nodes = sorted(sliced.nodes)
    places = [(EDGES, i) for i, edge in enumerate(edges) if _ends(every, edge) in sliced.edges]
    whole = ablator.whole
    right = answers_right(
        ablator, [without(whole, [place]) for place in (*((n.site, n.index) for n in nodes), *places)], pairs
    )
    return PartSet(
        nodes=frozenset(node for node, holds in zip(nodes, right, strict=False) if not holds),
        edges=frozenset(
            _ends(every, edges[i])
            for (_, i), holds in zip(places, right[len(nodes) :], strict=True)
            if not holds
        ),
    )


def answers_right(ablator: Ablator, variants: Sequence[Masks], pairs: PairBatch) -> np.ndarray:
    """Whether each variant gives the right answer to every prompt, uncalibrated: bool [variants]."""
    found = ablator.differences(variants, pairs)
    return ((found * np.array([1, -1])) > TIE).all(axis=(1, 2))


def every_part(network: Network) -> tuple[tuple[Node, ...], tuple[Edge, ...]]:
    """All nodes of the network, and all its edges."""
    config = network.model.config
    nodes = graph.nodes_of(config, full_masks(config))
    return nodes, graph.edges_of(config, network.model.params, nodes)


def _ends(nodes: Sequence[Node], edge: Edge) -> NodePair:
    return nodes[edge.source], nodes[edge.target]

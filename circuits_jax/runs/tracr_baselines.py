"""What pruning is compared with on compiled programs: no method at all, chance, and the field's methods.

See docs/statistics.md, "Compiled programs".
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.means import Subject
from circuits_jax.circuits.baselines import EdgeNetwork, ScoreSettings, scores
from circuits_jax.circuits.circuit import Node
from circuits_jax.circuits.masks import full_masks
from circuits_jax.circuits.rasp import Network, Truth
from circuits_jax.circuits.rasp.comparison import auroc, compare
from circuits_jax.circuits.rasp.truth import NodePair, PartSet, every_part
from circuits_jax.config import PruneConfig
from circuits_jax.storage.errors import UserError
from circuits_jax.storage.tables import Row

RANDOM_DRAWS = 100
# By their names in the figures.  Random scores nodes by themselves here.
SCORED = {"attribution": "attribution", "eap-ig": "EAP-IG", "acdc": "ACDC"}


class PartScores(NamedTuple):
    """Scores of all nodes and of all edges of a network; the higher, the sooner one is kept."""

    nodes: Mapping[Node, float]
    edges: Mapping[NodePair, float]


def baselines(
    network: Network,
    subject: Subject,
    truth: Truth,
    found: PartSet,
    prune: PruneConfig,
    settings: ScoreSettings,
) -> list[Row]:
    """A row a method: precision, recall and AUROC of nodes and of edges.

    Args:
      network: Of a compiled program.
      subject: Of `subject_of`; what removed parts are held at, as in pruning.
      truth: What is known.
      found: What pruning kept; of what has scores as many parts are kept.
      prune: Of pruning: scores are found on the pairs that it prunes on.
      settings: Of the methods.

    Raises:
      UserError: if a method gives scores that are no finite numbers.
    """
    rows = [*_without_scores(network, truth), _random(network, truth, found, prune.seed)]
    edges = EdgeNetwork(subject, batching=prune.batching)
    pairs = network.pairs(prune.train_pairs, prune.seed)
    for method, name in SCORED.items():
        values = scores(method, edges, pairs, settings)
        if not np.isfinite(values.values).all():
            raise UserError(
                f"{name} gives scores of edges of the program {network.compiled.name} that are no finite "
                "numbers; the network's activations overflow"
            )
        rows.append(_scored_row(network, name, part_scores(network, values.by_edge()), truth, found))
    return rows


def part_scores(network: Network, edges: Mapping[NodePair, float]) -> PartScores:
    """A node's score is the largest of those of the edges that it is an end of.

    A node at no edge has the lowest score of any edge.

    Args:
      network: The network.
      edges: The scores of all its edges, which are its nonzero weights, here as in `ModelEdges`.
    """
    nodes, pairs = _parts(network)
    best = dict.fromkeys(nodes, min(edges.values()))
    for pair in pairs:
        for node in pair:
            best[node] = max(best[node], edges[pair])
    return PartScores(best, {pair: edges[pair] for pair in pairs})


def _without_scores(network: Network, truth: Truth) -> list[Row]:
    """Everything, and every node on a path: a part scores 1 if it is there, else 0."""
    nodes, edges = _parts(network)
    everything = PartSet(frozenset(nodes), frozenset(edges))
    rows = []
    for method, parts in (
        ("everything", everything),
        ("every node on a path", _on_a_path(network, everything)),
    ):
        marked = PartScores(
            {node: float(node in parts.nodes) for node in nodes},
            {pair: float(pair in parts.edges) for pair in edges},
        )
        rows.append(_row(network, method, compare(parts, truth), marked, truth))
    return rows


def _random(network: Network, truth: Truth, found: PartSet, seed: int) -> Row:
    """The mean of RANDOM_DRAWS draws of scores."""
    rng, (nodes, edges) = np.random.default_rng(seed), _parts(network)
    draws = []
    for _ in range(RANDOM_DRAWS):
        drawn = PartScores(
            dict(zip(nodes, rng.random(len(nodes)), strict=True)),
            dict(zip(edges, rng.random(len(edges)), strict=True)),
        )
        draws.append(_scored_row(network, "random", drawn, truth, found))
    figures = [name for name in draws[0] if name not in ("program", "method")]
    mean = {name: float(np.mean([draw[name] for draw in draws])) for name in figures}
    return {"program": network.compiled.name, "method": "random", **mean}


def _scored_row(network: Network, method: str, given: PartScores, truth: Truth, found: PartSet) -> Row:
    return _row(network, method, compare(_first(given, found), truth), given, truth)


def _row(network: Network, method: str, figures: Row, given: PartScores, truth: Truth) -> Row:
    found: Row = {"program": network.compiled.name, "method": method, **figures}
    for what in ("nodes", "edges"):
        core, slice_, each = (getattr(parts, what) for parts in (truth.core, truth.slice, given))
        found[f"{what.removesuffix('s')}_auroc"] = auroc(
            np.array([score for part, score in each.items() if part in core]),
            np.array([score for part, score in each.items() if part not in slice_]),
        )
    return found


def _first(given: PartScores, found: PartSet) -> PartSet:
    """The parts of highest score, as many as pruning kept; of equal ones the first in forward order."""
    nodes, edges = (
        frozenset[Any](sorted(each, key=lambda part: -each[part])[: len(kept)])
        for each, kept in ((given.nodes, found.nodes), (given.edges, found.edges))
    )
    return PartSet(nodes, edges)


def _parts(network: Network) -> tuple[Sequence[Node], Sequence[NodePair]]:
    """All nodes and all edges, in forward order."""
    nodes, edges = every_part(network)
    return nodes, [(nodes[edge.source], nodes[edge.target]) for edge in edges]


def _on_a_path(network: Network, everything: PartSet) -> PartSet:
    """Every node on a path from the prompt to an answer, and every weight between two of them."""
    config, params = network.model.config, network.model.params
    masks = full_masks(config)
    live = graph.reached(config, params, masks)
    leads = graph.useful(config, params, masks, network.answers)
    on = {site: live[site] & leads[site] for site in masks}
    nodes = frozenset(node for node in everything.nodes if on[node.site][node.index])
    return PartSet(nodes, frozenset(pair for pair in everything.edges if nodes.issuperset(pair)))

"""Do the circuits of two training runs do the same?  Node by node, by activations on the same prompts.

Two runs number their nodes differently, so that a node of one is looked for in the other by what it does: the
largest absolute Pearson correlation of its activation with that of a node of the same kind of site, over all
positions of the prompts.  Beside it stands what as many random nodes of the other run's sites give: in a
network most channels follow the tokens, and something always correlates (docs/method.md, "Do seeds agree?").

Letters in shapes: P positions, N and M nodes.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from circuits_jax.circuits.circuit import Node
from circuits_jax.model.sites import FINAL, parse

DRAWS = 199  # random circuits; with them the least p-value is 0.005
ALIKE = 0.9  # a correlation from which on a node counts as found


@dataclasses.dataclass(frozen=True)
class FoundNode:
    """A node of one run's circuit, looked for in another run.

    Attributes:
      node: The node.
      like: The most similar node of the other's circuit; None if it has none of that kind of site.
      correlation: With that one, in absolute value; 0 without.
      like_anywhere, correlation_anywhere: The same among all nodes of the other model.
    """

    node: Node
    like: Node | None
    correlation: float
    like_anywhere: Node | None
    correlation_anywhere: float


@dataclasses.dataclass(frozen=True)
class CircuitAgreement:
    """How far the nodes of one run's circuit are those of another's.

    Attributes:
      nodes: Each node that was looked for.
      mean: Of their correlations with the other's circuit.
      random: The same for random nodes in place of the other's circuit, float [DRAWS].
      p: Share of draws, the circuit counted among them, that are at least as similar.
    """

    nodes: tuple[FoundNode, ...]
    mean: float
    random: np.ndarray
    p: float

    @property
    def alike(self) -> int:
        """How many nodes are found in the other circuit, by a correlation of ALIKE or more."""
        return sum(found.correlation >= ALIKE for found in self.nodes)

    @property
    def anywhere(self) -> int:
        """How many are found anywhere in the other model."""
        return sum(found.correlation_anywhere >= ALIKE for found in self.nodes)


def agreement(
    nodes: Sequence[Node],
    own: Mapping[str, np.ndarray],
    others: Sequence[Node],
    other: Mapping[str, np.ndarray],
    seed: int,
) -> CircuitAgreement:
    """Looks for the nodes of a circuit in another run.

    Args:
      nodes: The circuit's, at least one.
      own: Activations of its model, {site: [P, width]}.
      others: Nodes of the other run's circuit.
      other: Activations of the other model at the same positions, {site: [P, width]}.
      seed: Of the random nodes.
    """
    rng = np.random.default_rng(seed)
    found: dict[Node, FoundNode] = {}
    drawn = np.zeros(DRAWS)
    for kind in dict.fromkeys(map(_kind, (node.site for node in nodes))):
        mine = [node for node in nodes if _kind(node.site) == kind]
        theirs = [Node(site, i) for site in other if _kind(site) == kind for i in range(other[site].shape[1])]
        similar = correlations(_columns(own, mine), _columns(other, theirs))
        place = {node: i for i, node in enumerate(theirs)}
        wanted = [place[node] for node in others if node in place]
        for node, row in zip(mine, similar, strict=True):
            best = wanted[int(row[wanted].argmax())] if wanted else None
            most = int(row.argmax()) if len(row) else None
            found[node] = FoundNode(node, *_named(theirs, row, best), *_named(theirs, row, most))
        alive = {
            site: [place[Node(site, int(i))] for i in np.flatnonzero(other[site].any(axis=0))]
            for site in dict.fromkeys(node.site for node in others if node in place)
        }
        counts = {site: sum(node.site == site for node in others) for site in alive}
        for draw in range(DRAWS):
            chosen = [
                each
                for site, count in counts.items()
                for each in rng.permutation(alive[site])[: min(count, len(alive[site]))].tolist()
            ]
            if chosen:
                drawn[draw] += similar[:, chosen].max(axis=1).sum() / len(nodes)
    ordered = tuple(found[node] for node in nodes)
    mean = float(np.mean([each.correlation for each in ordered]))
    at_least = int((drawn >= mean - 1e-12).sum())
    return CircuitAgreement(ordered, mean, drawn, (1 + at_least) / (1 + DRAWS))


def correlations(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Absolute Pearson correlations of columns, [P, N] and [P, M] -> [N, M]; 0 for one that never changes."""
    return np.abs(_standardised(one).T @ _standardised(other)) / len(one)


def _standardised(values: np.ndarray) -> np.ndarray:
    centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
    deviation = np.sqrt((centred**2).mean(axis=0))
    changes = deviation > 1e-6 * np.maximum(np.abs(values).max(axis=0, initial=0.0), 1e-30)
    return np.where(changes, centred / np.where(changes, deviation, 1.0), 0.0)


def _columns(activations: Mapping[str, np.ndarray], nodes: Sequence[Node]) -> np.ndarray:
    return np.stack([activations[node.site][:, node.index] for node in nodes], axis=1)


def _named(nodes: Sequence[Node], row: np.ndarray, place: int | None) -> tuple[Node | None, float]:
    return (None, 0.0) if place is None else (nodes[place], float(row[place]))


def _kind(site: str) -> str:
    """A site's name without its layer: what one run does in a layer another may do in the next."""
    return site if site == FINAL else parse(site)[1]

"""What is written into the dense stream: the nodes' own edit, and controls that should do nothing.

Letters in shapes: N pairs, T tokens, E width of the dense stream.
"""

from collections.abc import Sequence

import numpy as np

from circuits_jax.bridges.steering.directions import Values, Writes
from circuits_jax.circuits.circuit import Node
from circuits_jax.storage.errors import BridgeError

SiteDeltas = dict[
    int, np.ndarray
]  # place of a bridge site -> what is added there at strength 1, float32 [N, T, E]


def make_edit(nodes: Sequence[Node], writes: Writes, values: Values) -> SiteDeltas:
    """The nodes' own edit: the sum of (B - A) x direction, each at its site."""
    return _edit([(_write(node, writes), _value(node, writes, values)) for node in nodes])


def random_nodes(
    nodes: Sequence[Node],
    writes: Writes,
    values: Values,
    rng: np.random.RandomState,
) -> SiteDeltas:
    """Control: same amounts and positions, but another node's direction.

    The other node is at the same site, and its direction is scaled to the same norm.
    """
    parts = []
    for node in nodes:
        place, vector = _write(node, writes)
        vectors = writes[node.site].vectors
        norms = np.linalg.norm(vectors, axis=1)
        others = np.setdiff1d(np.flatnonzero(norms > 0), [node.index])
        if not len(others):
            raise BridgeError(f"{node.site} has no other node that writes anything, for a control")
        other = vectors[rng.choice(others)]
        parts.append(((place, _of_norm(other, vector)), _value(node, writes, values)))
    return _edit(parts)


def random_directions(
    nodes: Sequence[Node],
    writes: Writes,
    values: Values,
    rng: np.random.RandomState,
) -> SiteDeltas:
    """Control: the same amounts at the same positions, in random directions of the same norm."""
    parts = []
    for node in nodes:
        place, vector = _write(node, writes)
        parts.append(((place, _of_norm(rng.normal(size=vector.shape), vector)), _value(node, writes, values)))
    return _edit(parts)


def wrong_positions(
    nodes: Sequence[Node],
    writes: Writes,
    values: Values,
    within: np.ndarray,
    rng: np.random.RandomState,
) -> SiteDeltas:
    """Control: the same amounts in the same directions at other positions of the prompt, the largest amount
    where the smallest was, ties in random order."""
    parts = []
    for node in nodes:
        value, moved = _value(node, writes, values), np.zeros(within.shape, np.float32)
        for row, inside in enumerate(within):
            places = rng.permutation(np.flatnonzero(inside))
            order = places[np.argsort(np.abs(value[row, places]), kind="stable")]
            moved[row, order] = value[row, order[::-1]]
        parts.append((_write(node, writes), moved))
    return _edit(parts)


def _write(node: Node, writes: Writes) -> tuple[int, np.ndarray]:
    found = writes[node.site]
    return found.place, found.vectors[node.index]


def _value(node: Node, writes: Writes, values: Values) -> np.ndarray:
    return values[writes[node.site].reads][..., node.index]


def _edit(parts: Sequence[tuple[tuple[int, np.ndarray], np.ndarray]]) -> SiteDeltas:
    deltas: dict[int, np.ndarray] = {}
    for (place, vector), value in parts:
        deltas[place] = deltas.get(place, 0) + value[..., None] * vector.astype(np.float32)
    return deltas


def _of_norm(vector: np.ndarray, like: np.ndarray) -> np.ndarray:
    return vector * (np.linalg.norm(like) / max(np.linalg.norm(vector), 1e-30))

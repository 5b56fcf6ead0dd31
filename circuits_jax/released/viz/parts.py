"""The parts of a `viz_data.pt`, in the forms that its versions have: tensors or numbers, there or not."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from circuits_jax.circuits.circuit import Node
from circuits_jax.released.listing import as_json, plain
from circuits_jax.storage.errors import CircuitError

DOUBLED = 2.0
BIAS = "bias"  # in place of a source node: the weight is the target's bias


class Sample(NamedTuple):
    """A text on which a node is active: tokens int [T], its activations float32 [T], and where they peak."""

    tokens: np.ndarray
    activations: np.ndarray
    peak: int


# {index: {quantile: (lowest, highest)}} of one site's nodes, and {site: that}
OfSite = Mapping[int, Mapping[float, tuple[tuple[Sample, ...], tuple[Sample, ...]]]]
Samples = Mapping[str, OfSite]
# {site: {index: float32 [D, T]}}
Activations = Mapping[str, Mapping[int, np.ndarray]]


class JoinedNodes(NamedTuple):
    """A matrix between two node sites: `matrix[i, j]` is said of `sources[i]` and `targets[j]`."""

    matrix: np.ndarray
    sources: tuple[Any, ...]  # indices, and BIAS
    targets: tuple[int, ...]
    ends: tuple[str, str]


def number(value: Any) -> float:
    """A number, or a tensor of one, such as of shape [] or [1].

    Raises:
      TypeError: if there is none.
      ValueError: if it is something else.
    """
    if value is None:
        raise TypeError("a number is missing")
    array = np.asarray(value, np.float64)
    if array.size != 1:
        raise ValueError(f"{list(array.shape)} values, not one")
    return float(array.item())


def trials(value: Any) -> list[list[Any]]:
    """[[trial, loss], ...] of pairs, of losses, of one, of {trial: loss}, or of None; losses are halved."""
    if value is None:
        return []
    if isinstance(value, np.ndarray):
        value = np.atleast_1d(value).tolist()
    if isinstance(value, Mapping):
        value = list(value.items())
    losses = value if isinstance(value, list | tuple) else [value]
    pairs = [each if _is_pair(each) else (place, each) for place, each in enumerate(losses)]
    return [[as_json(trial), plain(number(loss) / DOUBLED)] for trial, loss in pairs]


def _is_pair(each: Any) -> bool:
    return isinstance(each, list | tuple | np.ndarray) and len(each) == 2


def prompts(value: Any) -> tuple[np.ndarray, Activations]:
    """Prompts and activations on them, of a tensor, `(tensor,)`, `(tensor, activations)` or None.

    What follows the longest prompt is cut off: prompts are filled up with token 0 there, which is no end of
    text but an ordinary character.
    """
    both: list[Any] = [value] if isinstance(value, np.ndarray) else list(value or ())
    first, activations = (both + [None, None])[:2]
    tokens = np.zeros((0, 0), np.int64) if first is None else np.asarray(first, np.int64)
    length = max((int(place) + 1 for place in np.flatnonzero((tokens != 0).any(axis=0))), default=0)
    return tokens[:, :length], {
        site: {int(i): np.asarray(x, np.float32)[:, :length] for i, x in each.items()}
        for site, each in (activations or {}).items()
    }


def samples(value: Any) -> Samples:
    """The texts of each site's nodes; none of None."""
    return {site: _of_site(each) for site, each in (value or {}).items() if each}


def matrices(entries: Any, key: str) -> list[JoinedNodes]:
    """The matrices under `key`; one version of the file nests their list once more.

    Raises:
      CircuitError: if a matrix is not of the nodes that it says it joins.
    """
    entries = entries or []
    if not all(map(_is_matrix, entries)):
        entries = [entry for part in entries for entry in part]
    joined = []
    for matrix, sources, targets, ends in entries:
        entry = JoinedNodes(np.asarray(matrix), ids(sources), ids(targets), tuple(ends))
        # A matrix without entries has lost its shape.
        if entry.matrix.size and entry.matrix.shape != (len(entry.sources), len(entry.targets)):
            raise CircuitError(
                f"{key}: the matrix from {ends[0]} to {ends[1]} is {list(entry.matrix.shape)}, but joins "
                f"{len(entry.sources)} nodes to {len(entry.targets)}"
            )
        joined.append(entry)
    return joined


def _is_matrix(entry: Sequence[Any]) -> bool:
    """Whether this is a matrix with its sources, targets and ends, and not a list of such."""
    return len(entry) == 4 and len(entry[3]) == 2 and all(isinstance(end, str) for end in entry[3])


def pairs(entries: Sequence[JoinedNodes]) -> dict[tuple[Node, Node], float]:
    """{(source, target): entry}; the source's index may be BIAS."""
    return {
        (Node(entry.ends[0], source), Node(entry.ends[1], target)): float(entry.matrix[i, j])
        for entry in entries
        for i, source in enumerate(entry.sources)
        for j, target in enumerate(entry.targets)
        if entry.matrix.size
    }


def ids(values: Any) -> tuple[Any, ...]:
    """Indices as integers, and BIAS as it is."""
    return tuple(value if value == BIAS else int(value) for value in values)


def _of_site(of_site: Mapping[int, Any]) -> OfSite:
    def read(items: Sequence[Any]) -> tuple[Sample, ...]:
        return tuple(
            Sample(np.asarray(item[0], np.int64), np.asarray(item[1], np.float32), int(item[2]))
            for item in items
        )

    return {
        int(index): {float(q): (read(lowest), read(highest)) for q, (lowest, highest) in of_node.items()}
        for index, of_node in of_site.items()
    }

"""Turning a sparse node inside the dense model (docs/method.md, "Steering").

A node is written as `strength x (B - A) x direction` into the dense residual on prompt A, where B - A is by
how much its value on prompt B exceeds that on A, position by position.

A residual read (`act_in`) is normed, and so not in the units of the stream that decoders are of: its value
here is that of the channel it reads, in the stream.

Letters in shapes: N pairs, T tokens, W width of a node site, E width of the dense stream, S bridge sites.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.bridges.model import Bridge, BridgeParams
from circuits_jax.circuits.ablation.edits import check_node
from circuits_jax.circuits.ablation.pairs import PairBatch
from circuits_jax.circuits.circuit import Node
from circuits_jax.config import ModelConfig
from circuits_jax.model.model import Model
from circuits_jax.model.sites import parse
from circuits_jax.model.taps import add
from circuits_jax.model.transformer import Params
from circuits_jax.model.wiring import Wire, halves
from circuits_jax.storage.errors import BridgeError


class _Place(NamedTuple):
    """Where the nodes of a site are written.

    Attributes:
      number: Of the bridge site.
      weights: Their outgoing weights; None where a node is a channel of the residual stream itself.
      reads: The site whose values are theirs.
      of_stream: Whether they are what is read of the stream.
    """

    number: int
    weights: Wire | None
    reads: str
    of_stream: bool = False


class Directions(NamedTuple):
    """How the nodes of one site are written into the dense model.

    Attributes:
      place: Number of the bridge site at which.
      vectors: float32 [W, E], a direction for each.
      reads: The sparse model's site whose values are theirs.
    """

    place: int
    vectors: np.ndarray
    reads: str


Writes = Mapping[str, Directions]  # by node site
Values = Mapping[str, np.ndarray]  # site -> B - A, float32 [N, T, W]


class Candidate(NamedTuple):
    """A node that could be steered by.

    Attributes:
      node: It.
      separation: Share of pairs whose prompts its value orders, at least 1/2.
      effect: First-order change of the dense model's l[answer B] - l[answer A] on A at strength 1, averaged
        over pairs.
    """

    node: Node
    separation: float
    effect: float


def directions(bridge: Bridge, sparse: Params, bridges: BridgeParams) -> dict[str, Directions]:
    """{node site: how its nodes are written}, of all sites but q and k, which write nowhere.

    A residual channel has its row of the decoder's kernel; a neuron or v channel its outgoing weights times
    the decoder, at the site after it.
    """
    decoder = np.asarray(bridges["decoder"]["kernel"], np.float32)
    found = {}
    for site, place in _places(bridge.sparse.n_layer).items():
        vectors = decoder[place.number]
        if place.weights is not None:
            vectors = np.asarray(place.weights.weights(sparse), np.float32) @ vectors
        found[site] = Directions(place.number, vectors, place.reads)
    return found


def read_node(text: str, bridge: Bridge) -> Node:
    """`"0.mlp.post_act.12"` as a node that can be steered by.

    Raises:
      BridgeError: if it is of another form, outside the sparse model, or one that writes nowhere.
    """
    site, _, index = text.strip().rpartition(".")
    if not index.isdecimal():
        raise BridgeError(f"{text!r} names no node; write SITE.INDEX, such as 0.mlp.post_act.12")
    node = Node(site, int(index))
    try:
        check_node(node, bridge.sparse)
    except ValueError as error:
        raise BridgeError(f"the node {text} is outside the sparse model: {error}") from error
    check_steerable(node, bridge.sparse)
    return node


def is_steerable(node: Node, config: ModelConfig) -> bool:
    """Whether the node writes into the residual stream, or is a channel of it."""
    place = _places(config.n_layer).get(node.site)
    # What a half reads may be followed by position features, which have no place in the stream.
    return place is not None and not (place.of_stream and node.index >= config.d_model)


def check_steerable(node: Node, config: ModelConfig) -> None:
    """Raises BridgeError unless the node is one that `is_steerable`."""
    if not is_steerable(node, config):
        raise BridgeError(
            f"{node} writes nothing into the residual stream, so that it cannot be steered by; "
            f"choose one at {', '.join(parse(site)[1] for site in _places(1))}"
        )


def differences(model: Model, prompts: PairBatch, reads: Sequence[str]) -> Values:
    """B - A of the sparse model's values at each site of `reads`, float32 [N, T, W]; 0 beyond the prompts."""
    count, _, length = prompts.tokens.shape

    within = prompts.within()[..., None]
    _, records = model.apply(prompts.tokens.reshape(-1, length), record=tuple(dict.fromkeys(reads)))
    found = jax.device_get(records)
    pairs = {site: np.asarray(x, np.float32).reshape(count, 2, length, -1) for site, x in found.items()}
    return {site: (x[:, 1] - x[:, 0]) * within for site, x in pairs.items()}


def slopes(bridge: Bridge, model: Model, prompts: PairBatch) -> np.ndarray:
    """By how much the dense model's l[answer B] - l[answer A] on A grows with its residuals, [S, N, T, E]."""
    tokens = prompts.tokens[:, 0]
    zeros = {site: jnp.zeros((*tokens.shape, bridge.dense.d_model)) for site in bridge.sites}

    @jax.jit
    @jax.grad
    def slope(deltas: dict[str, jax.Array], params: Params) -> jax.Array:
        logits, _ = model.network.apply(params, tokens, tap=add(deltas), at=jnp.asarray(prompts.last))
        chosen = jnp.take_along_axis(logits, jnp.asarray(prompts.answers), axis=-1)
        return jnp.sum(chosen[:, 1] - chosen[:, 0])

    found = slope(zeros, model.device_params)
    return np.stack([np.asarray(found[site]) for site in bridge.sites])


def candidates(writes: Writes, values: Values, slope: np.ndarray) -> list[Candidate]:
    """Every steerable node that differs on A and B, those of largest effect first."""
    found = []
    for site, write in writes.items():
        change = values[write.reads]
        toward = slope[write.place] @ write.vectors.T  # [N, T, W]
        effect = np.einsum("ntw,ntw->w", change, toward) / len(change)
        summed = change.sum(axis=1)
        separation = np.maximum((summed > 0).mean(axis=0), (summed < 0).mean(axis=0))
        found += [
            Candidate(Node(site, int(index)), float(separation[index]), float(effect[index]))
            for index in np.flatnonzero(separation > 0)
        ]
    return sorted(found, key=lambda each: -each.effect)


def choose(
    found: Sequence[Candidate],
    count: int,
    separation: float,
    allowed: Callable[[Node], bool] = lambda node: True,
) -> list[Node]:
    """The `count` nodes of largest effect among those that order at least `separation` of the pairs.

    If several nodes are the same channel at the same site, only the first is taken, to avoid writing it
    twice.

    Args:
      found: Of `candidates`, in their order.
      allowed: Which nodes may be chosen, such as those of a circuit; all by default.

    Raises:
      BridgeError: if there are not as many.
    """
    among = [each for each in found if allowed(each.node)]
    good: dict[tuple[str | int, int], Node] = {}
    for node, separated, effect in among:
        if separated >= separation and effect > 0:
            good.setdefault(_written(node), node)
    if len(good) < count:
        best = max((each.separation for each in among), default=0.0)
        raise BridgeError(
            f"only {len(good)} nodes separate A from B on {separation:.0%} of the pairs and push the dense "
            f"model towards B (the best separates {best:.0%}); lower steer.separation, name "
            "the nodes, or train longer"
        )
    return list(good.values())[:count]


def _written(node: Node) -> tuple[str | int, int]:
    """What tells a node's write apart: its channel and bridge site, or else its own site and index."""
    place = _places(parse(node.site)[0] + 1)[node.site]
    return (place.number if place.weights is None else node.site), node.index


@functools.cache
def _places(layers: int) -> dict[str, _Place]:
    """{node site: where its nodes are written} in a network of so many layers, in forward order."""
    found = {}
    for half in halves(layers):
        found[half.read] = _Place(half.number, None, half.stream, of_stream=True)
        # What a head carries of a v channel to each position: that is what its outgoing weights act on.
        found[half.values] = _Place(half.number + 1, half.output, half.output.carried)
        found[half.write] = _Place(half.number + 1, None, half.write)
    return found

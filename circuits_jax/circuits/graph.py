"""Which nodes are joined to which: the edges of a circuit, and what lies on a path through it.

Pure numpy on host copies of the parameters.  docs/method.md, "Nodes and edges", says what an edge is.
"""

from collections.abc import Collection

import numpy as np

from circuits_jax.circuits.circuit import Edge, Entry, Node
from circuits_jax.circuits.masks import Masks
from circuits_jax.config import ModelConfig
from circuits_jax.model import sites
from circuits_jax.model.parameters import POSITION_EMBEDDING, TOKEN_EMBEDDING, UNEMBEDDING, get
from circuits_jax.model.transformer import Params
from circuits_jax.model.wiring import halves, wires

Flags = dict[str, np.ndarray]


def nodes_of(config: ModelConfig, masks: Masks) -> tuple[Node, ...]:
    """The kept nodes in forward order."""
    order = sites.node_sites(config, sites.FINAL in masks)
    return tuple(Node(site, int(index)) for site in order for index in np.flatnonzero(masks[site]))


def edges_of(config: ModelConfig, params: Params, nodes: tuple[Node, ...]) -> tuple[Edge, ...]:
    """The nonzero weights between kept nodes."""
    place = {node: i for i, node in enumerate(nodes)}
    kept: dict[str, list[int]] = {}
    for node in nodes:
        kept.setdefault(node.site, []).append(node.index)
    edges = []
    for wire in wires(config.n_layer):
        sources, targets = kept.get(wire.source, []), kept.get(wire.target, [])
        block = np.asarray(wire.weights(params))[np.ix_(sources, targets)]
        for i, j in np.argwhere(block != 0):
            source, target = Node(wire.source, sources[i]), Node(wire.target, targets[j])
            edges.append(Edge(place[source], place[target], float(block[i, j])))
    return tuple(edges)


def count_edges(config: ModelConfig, params: Params) -> int:
    """All nonzero weights between nodes of a model."""
    return int(sum(np.count_nonzero(wire.weights(params)) for wire in wires(config.n_layer)))


def embedding_entries(config: ModelConfig, params: Params, nodes: tuple[Node, ...]) -> tuple[Entry, ...]:
    """Nonzero token embedding weights into channels that a kept node reads."""
    reads = {*(half.read for half in halves(config.n_layer)), sites.FINAL}
    read = _channels(nodes, reads, config.d_model)
    return _entries(np.asarray(get(params, TOKEN_EMBEDDING)), read)


def unembedding_entries(
    config: ModelConfig, params: Params, nodes: tuple[Node, ...], answers: np.ndarray
) -> tuple[Entry, ...]:
    """Nonzero unembedding weights of the tokens `answers` from channels that a kept node writes.

    Where nodes of the final residual stream are kept, they are what the unembedding is joined to.
    """
    kept = any(node.site == sites.FINAL for node in nodes)
    writes = {sites.FINAL} if kept else {half.write for half in halves(config.n_layer)}
    written = _channels(nodes, writes, config.d_model)
    table = np.zeros((config.vocab_size, config.d_model), np.float32)
    table[answers] = unembedding(config, params).T[answers]
    return _entries(table, written)


def unembedding(config: ModelConfig, params: Params) -> np.ndarray:
    """The unembedding matrix [d_model, vocab], tied or not."""
    if config.tied_unembed:
        return np.asarray(get(params, TOKEN_EMBEDDING)).T
    return np.asarray(get(params, UNEMBEDDING))


def reached(config: ModelConfig, params: Params, masks: Masks) -> Flags:
    """Per node site, the kept nodes that something in the prompt reaches; the others are bias-only.

    With a sink, q and k decide how much of a constant value passes, so a v channel without inputs still
    carries information.  So does a removed one, which is held at its mean.
    """
    channel = (np.asarray(get(params, TOKEN_EMBEDDING)) != 0).any(axis=0)
    if config.position == "add":
        channel = channel | (np.asarray(get(params, POSITION_EMBEDDING)) != 0).any(axis=0)
    live: Flags = {}
    matrices = _matrices(config, params)
    for half in halves(config.n_layer):
        live[half.read] = _kept(masks, half.read) & _pad(channel, config.d_read)
        for site in half.units:
            live[site] = _kept(masks, site) & _any_source(matrices[half.read, site], live[half.read])
        sends = live[half.values]
        if half.gates and config.attention_sink:
            sends = sends | _by_head(config, np.any([live[site] for site in half.gates], axis=0))
        live[half.write] = _kept(masks, half.write) & _any_source(matrices[half.values, half.write], sends)
        channel = channel | live[half.write]
    if sites.FINAL in masks:
        live[sites.FINAL] = _kept(masks, sites.FINAL) & channel
    return live


def useful(config: ModelConfig, params: Params, masks: Masks, answers: np.ndarray) -> Flags:
    """Per node site, the kept nodes from which a path leads to the logit of a token in `answers`.

    A head's q and k count as leading to its kept v channels and, with a sink, to its removed ones: they
    decide how much of the mean that those are held at passes.
    """
    channel = (unembedding(config, params)[:, answers] != 0).any(axis=1)
    leads: Flags = {}
    if sites.FINAL in masks:
        channel = leads[sites.FINAL] = _kept(masks, sites.FINAL) & channel
    matrices = _matrices(config, params)
    for half in reversed(halves(config.n_layer)):
        leads[half.write] = _kept(masks, half.write) & channel
        written = _any_source(matrices[half.values, half.write].T, leads[half.write])
        leads[half.values] = _kept(masks, half.values) & written
        for site in half.gates:
            gated = written if config.attention_sink else leads[half.values]
            leads[site] = _kept(masks, site) & _by_head(config, gated)
        targets = [_any_source(matrices[half.read, site].T, leads[site]) for site in half.units]
        leads[half.read] = _kept(masks, half.read) & np.any(targets, axis=0)
        channel = channel | leads[half.read][: config.d_model]
    return leads


def _matrices(config: ModelConfig, params: Params) -> dict[tuple[str, str], np.ndarray]:
    """{(source, target): weights [in, out]} of every wire."""
    return {(wire.source, wire.target): np.asarray(wire.weights(params)) for wire in wires(config.n_layer)}


def _kept(masks: Masks, site: str) -> np.ndarray:
    return np.asarray(masks[site]) > 0


def _pad(channel: np.ndarray, width: int) -> np.ndarray:
    """Residual channels, then concatenated position channels, which are always live."""
    return np.concatenate([channel, np.ones(width - len(channel), bool)])


def _any_source(matrix: np.ndarray, sources: np.ndarray) -> np.ndarray:
    return (matrix[sources] != 0).any(axis=0)


def _by_head(config: ModelConfig, channels: np.ndarray) -> np.ndarray:
    """True on every channel of a head that has any True channel."""
    return np.repeat(channels.reshape(config.heads, config.d_head).any(axis=1), config.d_head)


def _channels(nodes: tuple[Node, ...], where: Collection[str], limit: int) -> list[int]:
    return sorted({n.index for n in nodes if n.site in where and n.index < limit})


def _entries(table: np.ndarray, channels: list[int]) -> tuple[Entry, ...]:
    """Nonzeros of `table` [vocab, d_model] in the columns `channels`."""
    found = np.argwhere(table[:, channels] != 0)
    return tuple(Entry(int(t), channels[c], float(table[t, channels[c]])) for t, c in found)

"""Which nodes are joined to which: the edges of a circuit, and what lies on a path through it.

Pure numpy on host copies of the parameters.  docs/method.md, "Nodes and edges", says what an edge is.
"""

import numpy as np

from circuits_jax.circuits.circuit import Edge, Entry, Node
from circuits_jax.circuits.masks import Masks
from circuits_jax.config import ModelConfig
from circuits_jax.model import sites
from circuits_jax.model.parameters import POSITION_EMBEDDING, TOKEN_EMBEDDING, UNEMBEDDING, get
from circuits_jax.model.transformer import Params
from circuits_jax.model.wiring import wires

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


def embedding_entries(config: ModelConfig, params: Params, nodes: tuple[Node, ...]) -> tuple[Entry, ...]:
    """Nonzero token embedding weights into channels that a kept node reads."""
    read = _channels(nodes, ("act_in", sites.FINAL), config.d_model)
    return _entries(np.asarray(get(params, TOKEN_EMBEDDING)), read)


def unembedding_entries(
    config: ModelConfig, params: Params, nodes: tuple[Node, ...], answers: np.ndarray
) -> tuple[Entry, ...]:
    """Nonzero unembedding weights of the tokens `answers` from channels that a kept node writes.

    Where nodes of the final residual stream are kept, they are what the unembedding is joined to.
    """
    kept = any(node.site == sites.FINAL for node in nodes)
    written = _channels(nodes, (sites.FINAL if kept else "resid_delta",), config.d_model)
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
    for layer in range(config.n_layer):
        for half, inner in (("attn", ("q", "k", "v")), ("mlp", ("post_act",))):
            read, write = f"{layer}.{half}.act_in", f"{layer}.{half}.resid_delta"
            live[read] = _kept(masks, read) & _pad(channel, config.d_read)
            for name in inner:
                site = f"{layer}.{half}.{name}"
                live[site] = _kept(masks, site) & _any_source(matrices[read, site], live[read])
            out = f"{layer}.{half}.{inner[-1]}"
            sends = live[out]
            if half == "attn" and config.attention_sink:
                gated = _by_head(config, live[f"{layer}.attn.q"] | live[f"{layer}.attn.k"])
                sends = sends | gated
            live[write] = _kept(masks, write) & _any_source(matrices[out, write], sends)
            channel = channel | live[write]
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
    for layer in reversed(range(config.n_layer)):
        for half, inner in (("mlp", ("post_act",)), ("attn", ("q", "k", "v"))):
            read, write = f"{layer}.{half}.act_in", f"{layer}.{half}.resid_delta"
            out = f"{layer}.{half}.{inner[-1]}"
            leads[write] = _kept(masks, write) & channel
            leads[out] = _kept(masks, out) & _any_source(matrices[out, write].T, leads[write])
            if half == "attn":
                values = leads[out]
                if config.attention_sink:
                    values = _any_source(matrices[out, write].T, leads[write])
                gated = _by_head(config, values)
                for name in ("q", "k"):
                    leads[f"{layer}.attn.{name}"] = _kept(masks, f"{layer}.attn.{name}") & gated
            targets = [
                _any_source(matrices[read, f"{layer}.{half}.{n}"].T, leads[f"{layer}.{half}.{n}"])
                for n in inner
            ]
            leads[read] = _kept(masks, read) & np.any(targets, axis=0)
            channel = channel | leads[read][: config.d_model]
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


def _channels(nodes: tuple[Node, ...], locations: tuple[str, ...], limit: int) -> list[int]:
    return sorted({n.index for n in nodes if n.site.endswith(locations) and n.index < limit})


def _entries(table: np.ndarray, channels: list[int]) -> tuple[Entry, ...]:
    """Nonzeros of `table` [vocab, d_model] in the columns `channels`."""
    found = np.argwhere(table[:, channels] != 0)
    return tuple(Entry(int(t), channels[c], float(table[t, channels[c]])) for t, c in found)

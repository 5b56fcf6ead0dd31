"""A network under construction: weights set one by one, and a list of the nodes and edges they make.

Channels, heads and neurons are given out in random order, so that no part of a planted circuit sits where
ties favour it.
"""

from collections.abc import Iterable

import jax
import numpy as np

from circuits_jax.circuits.circuit import Node
from circuits_jax.config import ModelConfig
from circuits_jax.model.parameters import SINK, TOKEN_EMBEDDING, UNEMBEDDING, get
from circuits_jax.model.transformer import init_params
from circuits_jax.model.wiring import Half, half_of, layers_of, wires_into


class Draft:
    """Parameters that start at zero (norm gains at one), and the circuit wired into them so far.

    Attributes:
      config: The network's shape.
      params: The parameter tree, of writable float32 arrays.
      edges: (source node, target node) of every weight that `reads` and `writes` set.
      channels: Residual channels given out, by name.
      suffix: Part of every channel's name from here on, so that a circuit can be wired again elsewhere.
      free_channels: The others.
      free_heads, free_neurons: Per layer, what is not given out.
    """

    def __init__(self, config: ModelConfig, rng: np.random.Generator):
        self.config = config
        shapes = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
        self.params = jax.tree_util.tree_map_with_path(_blank, shapes)
        self.edges: list[tuple[Node, Node]] = []
        self.channels: dict[str, int] = {}
        self.suffix = ""
        self.free_channels = rng.permutation(config.d_model).tolist()
        self.free_heads = [rng.permutation(config.heads).tolist() for _ in range(config.n_layer)]
        self.free_neurons = [rng.permutation(config.neurons).tolist() for _ in range(config.n_layer)]
        self._within_head = rng.permutation(config.d_head).tolist()

    def channel(self, name: str) -> int:
        """The residual channel called `name`, given out at first use."""
        full = name + self.suffix
        if full not in self.channels:
            self.channels[full] = self.free_channels.pop()
        return self.channels[full]

    def neuron(self, layer: int) -> Node:
        """A free neuron."""
        return Node(layers_of(self.config.n_layer)[layer].mlp.values, self.free_neurons[layer].pop())

    def head(self, layer: int, sink: float) -> tuple[Node, Node, Node]:
        """The query and key channels that meet, and a value channel, of a free head with that sink logit."""
        head = self.free_heads[layer].pop()
        get(self.params, SINK, layer)[head] = sink
        shared, value = (head * self.config.d_head + i for i in self._within_head[:2])
        attention = layers_of(self.config.n_layer)[layer].attention
        q, k = (Node(site, shared) for site in attention.gates)
        return q, k, Node(attention.values, value)

    def embed(self, token: int, **values: float) -> None:
        """Sets entries of a token's embedding, by channel name."""
        for name, value in values.items():
            get(self.params, TOKEN_EMBEDDING)[token, self.channel(name)] = value

    def unembed(self, token: int, **weights: float) -> None:
        """Sets a token's unembedding weights, by channel name."""
        for name, weight in weights.items():
            get(self.params, UNEMBEDDING)[self.channel(name), token] = weight

    def reads(self, unit: Node, bias: float = 0.0, **weights: float) -> None:
        """Wires a q, k or v channel or a neuron to the channels it reads, by name."""
        kernel, biases, column = self.inputs(unit)
        biases[column] = bias
        for name, weight in weights.items():
            kernel[self.channel(name), column] = weight
            self.edges.append((Node(self._half(unit).read, self.channel(name)), unit))

    def writes(self, unit: Node, bias: float = 0.0, **weights: float) -> None:
        """Wires a v channel or a neuron to the channels it writes, by name; `bias` goes to each of them."""
        out = self.outputs(unit)
        for name, weight in weights.items():
            out["kernel"][unit.index, self.channel(name)] = weight
            out["bias"][self.channel(name)] = bias
            self.edges.append((unit, Node(self._half(unit).write, self.channel(name))))

    def inputs(self, unit: Node) -> tuple[np.ndarray, np.ndarray, int]:
        """(kernel [d_read, n], bias [n], the column) that make a q, k or v channel or a neuron."""
        wire = wires_into(self.config.n_layer)[unit.site]
        linear = get(self.params, wire.linear)
        return linear["kernel"], linear["bias"], wire.columns(linear["kernel"]).start + unit.index

    def outputs(self, unit: Node) -> dict[str, np.ndarray]:
        """The linear layer, kernel [n, d_model] and bias, through which a v channel or a neuron writes."""
        return get(self.params, self._half(unit).output.linear)

    def _half(self, unit: Node) -> Half:
        return half_of(self.config.n_layer)[unit.site]

    def nodes(self) -> tuple[Node, ...]:
        """Both ends of all edges, sorted."""
        return tuple(sorted(set(_ends(self.edges))))


def _ends(edges: Iterable[tuple[Node, Node]]) -> Iterable[Node]:
    return (node for edge in edges for node in edge)


def _blank(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    fill = np.ones if path[-1].key == "scale" else np.zeros
    return fill(leaf.shape, np.float32)

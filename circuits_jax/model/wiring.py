"""Which weights join which nodes: the kernels between node sites, one row each.

A *wire* is a block of a kernel between two node sites; an edge of a circuit is one nonzero entry of it
(docs/method.md, "Nodes and edges").  Residual writes and reads of one channel meet without a weight and are
not in the table; neither are a head's q and k channels acting on its v channels.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

from circuits_jax.model import parameters


@dataclasses.dataclass(frozen=True)
class Wire:
    """The weights from one node site to another; entry [i, j] joins source i to target j.

    Attributes:
      source, target: Node sites, such as "0.attn.act_in" and "0.attn.q".
      carried: The site whose values meet the weights: the source, but what attention makes of it ("attn.y")
        where the source is "attn.v".
      linear: Name of the linear layer in the parameter tree.
      part, parts: The target's outputs are this one of so many equal parts of the layer's.
    """

    source: str
    target: str
    carried: str
    linear: str
    part: int = 0
    parts: int = 1

    def columns(self, kernel: Any) -> slice:
        """The target's columns of `kernel` [in, out]."""
        width = kernel.shape[-1] // self.parts
        return slice(self.part * width, (self.part + 1) * width)

    def weights(self, params: Any) -> Any:
        """The block [width of the source, width of the target] of a parameter tree."""
        kernel = parameters.get(params, self.linear)["kernel"]
        return kernel[:, self.columns(kernel)]


@dataclasses.dataclass(frozen=True)
class LinearLayer:
    """A linear layer whose kernel holds edges.

    Attributes:
      name: In the parameter tree.
      source: The node site whose columns it reads.
      carried: The site whose values meet the kernel.
      targets: The node sites that its outputs are, side by side.
    """

    name: str
    source: str
    carried: str
    targets: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Half:
    """One half of a layer, attention or MLP, as sites.

    Attributes:
      number: Its place among all halves, in forward order.
      stream: The residual stream before it, "0.resid_in".
      inputs: Wires from what it reads of the stream to its units: q, k and v channels, or neurons.
      output: The wire from those that write, v channels or neurons, to what it adds to the stream.
    """

    number: int
    stream: str
    inputs: tuple[Wire, ...]
    output: Wire

    @property
    def read(self) -> str:
        """The node site of what it reads."""
        return self.inputs[0].source

    @property
    def units(self) -> tuple[str, ...]:
        """The node sites of its units."""
        return tuple(wire.target for wire in self.inputs)

    @property
    def gates(self) -> tuple[str, ...]:
        """Those that only decide how much of the others passes: q and k, or none."""
        return tuple(site for site in self.units if site != self.output.source)

    @property
    def values(self) -> str:
        """Those that write."""
        return self.output.source

    @property
    def write(self) -> str:
        """The node site of what it adds to the stream."""
        return self.output.target


class Layer(NamedTuple):
    """The two halves of a layer."""

    attention: Half
    mlp: Half


# Within one layer: source, target, carried, linear layer, part, parts; in forward order.
_ROWS = (
    ("attn.act_in", "attn.q", "attn.act_in", parameters.QKV, 0, 3),
    ("attn.act_in", "attn.k", "attn.act_in", parameters.QKV, 1, 3),
    ("attn.act_in", "attn.v", "attn.act_in", parameters.QKV, 2, 3),
    ("attn.v", "attn.resid_delta", "attn.y", parameters.ATTENTION_OUT, 0, 1),
    ("mlp.act_in", "mlp.post_act", "mlp.act_in", parameters.MLP_IN, 0, 1),
    ("mlp.post_act", "mlp.resid_delta", "mlp.post_act", parameters.MLP_OUT, 0, 1),
)
# The residual stream before each half.
_STREAMS = ("resid_in", "resid_mid")
# Locations of a layer that read the stream, that write it, and that gate others, which are named.
READS = tuple(dict.fromkeys(row[0] for row in _ROWS if row[0] not in {other[1] for other in _ROWS}))
WRITES = tuple(row[1] for row in _ROWS if row[0] not in READS)
GATES = {"attn.q": "attn.v", "attn.k": "attn.v"}


@functools.cache
def wires(layers: int) -> tuple[Wire, ...]:
    """Every wire of a network of so many layers, in forward order."""
    return tuple(
        Wire(
            source=f"{layer}.{source}",
            target=f"{layer}.{target}",
            carried=f"{layer}.{carried}",
            linear=linear.format(layer=layer),
            part=part,
            parts=parts,
        )
        for layer in range(layers)
        for source, target, carried, linear, part, parts in _ROWS
    )


@functools.cache
def wires_into(layers: int) -> dict[str, Wire]:
    """{target site: its wire}; every node site but the residual reads is the target of one wire."""
    return {wire.target: wire for wire in wires(layers)}


@functools.cache
def layers_of(layers: int) -> tuple[Layer, ...]:
    """The halves of a network of so many layers, layer by layer."""
    in_layer = len(_ROWS)
    found = []
    for layer in range(layers):
        own = wires(layers)[layer * in_layer : (layer + 1) * in_layer]
        ends = [place for place, row in enumerate(_ROWS, 1) if row[1] in WRITES]
        halves = [
            Half(2 * layer + i, f"{layer}.{stream}", own[start : end - 1], own[end - 1])
            for i, (stream, start, end) in enumerate(zip(_STREAMS, (0, *ends), ends, strict=False))
        ]
        found.append(Layer(*halves))
    return tuple(found)


def halves(layers: int) -> tuple[Half, ...]:
    """The same, in forward order."""
    return tuple(half for layer in layers_of(layers) for half in layer)


@functools.cache
def half_of(layers: int) -> dict[str, Half]:
    """{node site: the half that it is of}."""
    return {site: half for half in halves(layers) for site in (half.read, *half.units, half.write)}


@functools.cache
def linear_layers(layers: int) -> tuple[LinearLayer, ...]:
    """Every linear layer that holds edges, in forward order."""
    alike: dict[str, list[Wire]] = {}
    for wire in wires(layers):
        alike.setdefault(wire.linear, []).append(wire)
    return tuple(
        LinearLayer(name, of[0].source, of[0].carried, tuple(wire.target for wire in of))
        for name, of in alike.items()
    )

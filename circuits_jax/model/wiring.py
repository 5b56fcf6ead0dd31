"""Which weights join which nodes: the kernels between node sites, one row each.

A *wire* is a block of a kernel between two node sites; an edge of a circuit is one nonzero entry of it
(docs/method.md, "Nodes and edges").  Residual writes and reads of one channel meet without a weight and are
not in the table; neither are a head's q and k channels acting on its v channels.
"""

import dataclasses
import functools
from typing import Any

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


# Within one layer: source, target, carried, linear layer, part, parts; in forward order.
_ROWS = (
    ("attn.act_in", "attn.q", "attn.act_in", parameters.QKV, 0, 3),
    ("attn.act_in", "attn.k", "attn.act_in", parameters.QKV, 1, 3),
    ("attn.act_in", "attn.v", "attn.act_in", parameters.QKV, 2, 3),
    ("attn.v", "attn.resid_delta", "attn.y", parameters.ATTENTION_OUT, 0, 1),
    ("mlp.act_in", "mlp.post_act", "mlp.act_in", parameters.MLP_IN, 0, 1),
    ("mlp.post_act", "mlp.resid_delta", "mlp.post_act", parameters.MLP_OUT, 0, 1),
)


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
def linear_layers(layers: int) -> tuple[LinearLayer, ...]:
    """Every linear layer that holds edges, in forward order."""
    alike: dict[str, list[Wire]] = {}
    for wire in wires(layers):
        alike.setdefault(wire.linear, []).append(wire)
    return tuple(
        LinearLayer(name, of[0].source, of[0].carried, tuple(wire.target for wire in of))
        for name, of in alike.items()
    )

"""Removing edges, as a change of parameters (docs/method.md, "Ablation").

A removed edge contributes weight x mean of what it carries: its kernel entry goes, and the constant joins the
target's bias.  So a circuit with removed edges is run by the one forward pass, on parameters of its own.

An edge carries its source's activation; that of a v channel is what attention makes of it, `attn.y`.  It is
held at its own corpus mean and not at the mean of v: a sink takes part of the attention, so the mean of v
would shift the target.  Hence removing all edges out of a node equals holding the node at its mean; for a v
channel it equals holding `attn.y` there.  (A *removed v channel*, held at its mean before attention, still
lets the sink's share through.)
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.means import Means
from circuits_jax.circuits.circuit import Circuit, Edge, Node
from circuits_jax.config import ModelConfig
from circuits_jax.model import sites
from circuits_jax.model.model import Model
from circuits_jax.model.parameters import get, updated
from circuits_jax.model.transformer import Params
from circuits_jax.model.wiring import linear_layers, wires_into

# Edge sets are padded to a power of two from here on, so that circuits share compilations.
LEAST_CAPACITY = 256


class EdgeSet(NamedTuple):
    """Where edges lie in the weight matrices; int32 [C] each.

    Attributes:
      matrix: Place in `wiring.linear_layers`, or -1 for padding.
      row, column: Of the matrix.
    """

    matrix: Any
    row: Any
    column: Any

    @property
    def capacity(self) -> int:
        """C, the number of edges with padding."""
        return len(self.matrix)


def edge_set(config: ModelConfig, nodes: Sequence[Node], edges: Iterable[Edge]) -> EdgeSet:
    """Where `edges` between `nodes` lie, in their order, padded."""
    number = {layer.name: i for i, layer in enumerate(linear_layers(config.n_layer))}
    wires, widths, places = wires_into(config.n_layer), sites.node_sites(config), []
    for edge in edges:
        source, target = nodes[edge.source], nodes[edge.target]
        wire = wires[target.site]
        places.append((number[wire.linear], source.index, wire.part * widths[target.site] + target.index))
    capacity = max(LEAST_CAPACITY, 1 << (len(places) - 1).bit_length())
    padding = [(-1, 0, 0)] * (capacity - len(places))
    return EdgeSet(*np.array([*places, *padding], np.int32).T)


def with_biases(model: Model) -> Model:
    """The same network with a bias in every linear layer, zero where it had none."""
    if model.config.bias:
        return model
    layers = {
        layer.name: {"bias": np.zeros(get(model.params, layer.name)["kernel"].shape[-1], np.float32)}
        for layer in linear_layers(model.config.n_layer)
    }
    config = dataclasses.replace(model.config, bias=True)
    return dataclasses.replace(model, config=config, params=updated(model.params, layers))


def fold(config: ModelConfig, params: Params, means: Means, edges: EdgeSet, kept: jax.Array) -> Params:
    """Parameters without the edges whose `kept` is 0, their constants folded away; differentiable in `kept`.

    For a weight w from what is carried, x, to the target: `x w kept + mean(x) w (1 - kept)`.

    Args:
      config: The model's, with biases.
      params: Its parameters.
      means: {site: [width] or [T, width]}, also of `attn.y` (`means.reference_activations`).  Means of each
        position make biases of each position.
      edges: Of `edge_set`.
      kept: float32 [C].
    """
    layers = {}
    for i, linear in enumerate(linear_layers(config.n_layer)):
        layer = jax.tree.map(jnp.asarray, get(params, linear.name))
        taken = _taken(layer["kernel"], i, edges, kept)
        constant = taken * jnp.asarray(means[linear.carried])[..., edges.row]
        bias = jnp.broadcast_to(layer["bias"], (*constant.shape[:-1], layer["bias"].shape[-1]))
        layers[linear.name] = {
            "kernel": layer["kernel"].at[edges.row, edges.column].add(-taken),
            "bias": bias.at[..., edges.column].add(constant),
        }
    return updated(params, layers)


def beside(config: ModelConfig, params: Params, edges: EdgeSet, kept: jax.Array) -> Params:
    """Parameters whose kernels have twice the rows: those of what stays, then those of the removed edges.

    A layer with them takes x and, joined to it, what removed edges carry, which may differ by prompt and
    position: `x w kept + reference w (1 - kept)`.  The arguments are those of `fold`.
    """
    layers = {}
    for i, linear in enumerate(linear_layers(config.n_layer)):
        layer = jax.tree.map(jnp.asarray, get(params, linear.name))
        kernel = layer["kernel"]
        gone = jnp.zeros_like(kernel).at[edges.row, edges.column].add(_taken(kernel, i, edges, kept))
        layers[linear.name] = {**layer, "kernel": jnp.concatenate([kernel - gone, gone])}
    return updated(params, layers)


def _taken(kernel: jax.Array, matrix: int, edges: EdgeSet, kept: jax.Array) -> jax.Array:
    """The part of each edge's weight that goes, 0 for edges of other matrices, wherever they point: [C]."""
    return jnp.where(edges.matrix == matrix, 1 - kept, 0) * kernel[edges.row, edges.column]


_fold = jax.jit(fold, static_argnums=0)  # one by one its operations take seconds to compile


def remove_edges(circuit: Circuit, model: Model) -> Model:
    """The network in which `circuit` runs: the model without the edges between its nodes that it leaves out.

    Run it with `taps.only(circuit)`, which removes the other nodes.

    Args:
      circuit: Cut from this model.
      model: The full model.
    """
    every = graph.edges_of(model.config, model.params, circuit.nodes)
    kept = {edge[:2] for edge in circuit.edges}
    gone = [edge for edge in every if edge[:2] not in kept]
    if not gone:
        return model
    model = with_biases(model)
    edges = edge_set(model.config, circuit.nodes, gone)
    params = _fold(model.config, model.device_params, circuit.means, edges, jnp.zeros(edges.capacity))
    return dataclasses.replace(model, params=params)


def without_edges(config: ModelConfig, params: Params, nodes: Sequence[Node], gone: Sequence[Edge]) -> Params:
    """Host parameters whose kernels are zero at the edges `gone`: for reading the graph, not for running."""
    kernels: dict[str, dict[str, np.ndarray]] = {}
    places = edge_set(config, nodes, gone)
    for i, linear in enumerate(linear_layers(config.n_layer)):
        here = places.matrix == i
        kernel = np.array(get(params, linear.name)["kernel"])
        kernel[places.row[here], places.column[here]] = 0
        kernels[linear.name] = {"kernel": kernel}
    return updated(params, kernels)

"""One edge of a circuit acting at some positions only, many such variants in one compiled program.

Where it does not act, an edge contributes weight x mean of what it carries, as a removed edge does
(docs/method.md, "Readings").  That differs by position, so it is no change of parameters alone: the tap hands
each linear layer one more column, what the edge carries less its mean where it is silent and 0 elsewhere, and
the layer's kernel has one more row, minus the edge's weight.  The one forward pass then runs it, and the
program is the same for every edge.

Letters in shapes: N pairs, T tokens, S selections of positions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.circuits.ablation.edge_removal import EdgeSet, edge_set, remove_edges, with_biases
from circuits_jax.circuits.ablation.means import Means
from circuits_jax.circuits.ablation.pairs import PairBatch, pair_difference
from circuits_jax.circuits.audit.intervals import pair_losses
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.circuits.masks import Masks
from circuits_jax.circuits.pruning.probes import shared_prober
from circuits_jax.circuits.pruning.runner import replicate
from circuits_jax.model.model import Model
from circuits_jax.model.parameters import get, updated
from circuits_jax.model.taps import compose, mix
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.model.wiring import linear_layers


class CircuitNetwork(NamedTuple):
    """A circuit as compiled programs take it; arrays only.

    Attributes:
      params: With biases, without the edges that the circuit leaves out.
      means: {site: [width]}, what removed nodes are held at and silent edges carry, also of `attn.y`.
      masks: {node site: [width]}, 1 on the circuit's nodes.
    """

    params: Params
    means: Means
    masks: Masks


class ActingEdges:
    """A circuit whose edges can be silenced one at a time, at some positions.

    Args:
      circuit: Cut from `model`, with means of `attn.y` too.
      model: The full model.
    """

    def __init__(self, circuit: Circuit, model: Model):
        whole, devices = with_biases(model), tuple(jax.devices())
        self._circuit = circuit
        means = {site: jnp.asarray(mean) for site, mean in circuit.means.items()}
        masks = {site: jnp.asarray(mask) for site, mask in circuit.masks().items()}
        network = CircuitNetwork(dict(remove_edges(circuit, whole).device_params), means, masks)
        self._shared = replicate(network, devices)
        self._differences = shared_prober(whole.network, "auto", devices, difference_where_acting)
        self._deviations = shared_prober(whole.network, "auto", devices, deviation)
        self._places = edge_set(whole.config, circuit.nodes, circuit.edges)

    @property
    def compilations(self) -> int:
        """How many programs were compiled, by all circuits of the model."""
        return self._differences.compilations + self._deviations.compilations

    def losses(self, edge: int, selections: Sequence[np.ndarray], pairs: PairBatch) -> np.ndarray:
        """Task loss with an edge acting at the selected positions only, float64 [S], calibrated as saved.

        Args:
          edge: Its place in `Circuit.edges`.
          selections: bool [N, 2, T] each, where it acts.
          pairs: N pairs.
        """
        asked = [(self._place(edge), (*pairs, np.asarray(where, np.float32))) for where in selections]
        found = np.array(self._differences.differences(self._shared, asked), np.float64)
        fitted = self._circuit.calibration
        return pair_losses(found, fitted.scale, fitted.shift).mean(axis=-1)

    def deviations(self, edge: int, pairs: PairBatch) -> np.ndarray:
        """How far what an edge carries in the circuit is from its mean, float32 [N, 2, T].

        Args:
          edge: Its place in `Circuit.edges`.
          pairs: N pairs.
        """
        return self._deviations.differences(self._shared, [(self._place(edge), pairs)])[0]

    def _place(self, edge: int) -> Masks:
        """Where the edge lies, for the engine: the fields of an EdgeSet, scalars."""
        return {name: each[edge] for name, each in self._places._asdict().items()}


def difference_where_acting(
    network: Transformer, circuit: CircuitNetwork, place: Masks, data: tuple
) -> jax.Array:
    """l[answer A] - l[answer B] in a circuit one of whose edges acts at some positions only, float32 [N, 2].

    Args:
      network: With biases.
      circuit: Its parameters, means and masks.
      place: Where the edge lies, the fields of an EdgeSet; scalars.
      data: The arrays of a PairBatch, and float32 [N, 2, T], 1 where the edge acts and 0 where it is silent.
    """
    pairs, acts, edge = PairBatch(*data[:3]), data[3], EdgeSet(**place)
    silent = 1 - acts.reshape(-1, acts.shape[-1])
    layers, here = {}, {}
    for i, linear in enumerate(linear_layers(network.config.n_layer)):
        kernel = get(circuit.params, linear.name)["kernel"]
        here[linear.carried] = edge.matrix == i
        # Of another matrix the entry may be anything, wherever row and column point.
        weight = jnp.where(here[linear.carried], kernel[edge.row, edge.column], 0)
        row = -weight * (jnp.arange(kernel.shape[1]) == edge.column)
        layers[linear.name] = {"kernel": jnp.concatenate([kernel, row[None]])}

    def hand_on(site: str, x: jax.Array) -> jax.Array:
        if site not in here:
            return x
        missing = jnp.where(here[site], silent * (x[..., edge.row] - circuit.means[site][..., edge.row]), 0)
        return jnp.concatenate([x, missing[..., None].astype(x.dtype)], axis=-1)

    tap = compose(mix(circuit.masks, circuit.means), hand_on)
    return pair_difference(network, updated(circuit.params, layers), pairs, tap)


def deviation(network: Transformer, circuit: CircuitNetwork, place: Masks, data: tuple) -> jax.Array:
    """How far from its mean is what an edge carries in a circuit, float32 [N, 2, T].

    Args:
      network, circuit, place: As above.
      data: The arrays of a PairBatch.
    """
    pairs, layers, edge = PairBatch(*data), linear_layers(network.config.n_layer), EdgeSet(**place)
    tokens = pairs.tokens.reshape(-1, pairs.tokens.shape[-1])
    wanted, tap = tuple(linear.carried for linear in layers), mix(circuit.masks, circuit.means)
    ends = jnp.repeat(pairs.last, 2)
    _, records = network.apply(circuit.params, tokens, tap=tap, record=wanted, at=ends)
    found = jnp.zeros(tokens.shape, jnp.float32)
    for i, site in enumerate(wanted):
        away = records[site][..., edge.row].astype(jnp.float32) - circuit.means[site][..., edge.row]
        found += jnp.where(edge.matrix == i, jnp.abs(away), 0)
    return found.reshape(pairs.tokens.shape)

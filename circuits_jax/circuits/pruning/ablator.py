"""One network of which nodes and edges can be removed, many variants of it in one compiled program.

What a variant keeps is one dict, {node site: float32 [width]} and EDGES: float32 [C], 1 on what is kept, so
that the searches and the fits of node pruning serve edges as they are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.circuits.ablation.donors import AnyPairs, reference
from circuits_jax.circuits.ablation.edge_removal import EdgeSet, beside, fold, with_biases
from circuits_jax.circuits.ablation.means import Means, Subject
from circuits_jax.circuits.circuit import Calibration
from circuits_jax.circuits.masks import Masks
from circuits_jax.circuits.pruning.compaction import (
    Capacities,
    CompactNetwork,
    Held,
    can_cut,
    compact,
    difference_held,
    even_room,
    means_left,
)
from circuits_jax.circuits.pruning.probes import JudgedBy, shared_prober
from circuits_jax.circuits.pruning.runner import replicate
from circuits_jax.config import ModelConfig, PruneConfig
from circuits_jax.model.parameters import updated
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.model.wiring import linear_layers
from circuits_jax.tasks.metrics import loss_of_difference

EDGES = "edges"
ROUNDS = 2  # of trying each edge alone, about, in the search for the fewest
UNCALIBRATED = Calibration(1.0, 0.0)


class FoldedNetwork(NamedTuple):
    """What `ablated_difference` runs; arrays only.

    Attributes:
      params: With biases.
      means: {site: [width]}, what removed nodes are held at and removed edges carry.
      edges: Of `edge_set`, C of them.
      scale, shift: Of the calibration.
      cut: Of `compact`, if nodes were cut away; rows of edges are then those that are left.
    """

    params: Params
    means: Means
    edges: EdgeSet
    scale: jax.Array | float
    shift: jax.Array | float
    cut: CompactNetwork | tuple = ()


def ablated_difference(
    network: Transformer, folded: FoldedNetwork, kept: Masks, pairs: AnyPairs
) -> jax.Array:
    """The calibrated l[answer A] - l[answer B] with nodes and edges removed, float32 [N, 2]."""
    params, means, edges, scale, shift, cut = folded
    nodes = {site: mask for site, mask in kept.items() if site != EDGES}
    held = reference(network, params, tuple(means), means, pairs)
    joined: set[str] = set()
    if cut:
        if held is not means:
            raise ValueError("donors' values cannot stand in for nodes that were cut away")
        params = fold(network.config, updated(params, cut.layers), means_left(cut, means), edges, kept[EDGES])
    elif held is means:
        params = fold(network.config, params, means, edges, kept[EDGES])
    else:
        params = beside(network.config, params, edges, kept[EDGES])
        joined = {linear.carried for linear in linear_layers(network.config.n_layer)}
    return scale * difference_held(network, params, Held(held, joined), nodes, pairs, cut) + shift


def _without_nodes(
    config: ModelConfig, folded: FoldedNetwork, envelope: Masks, room: Capacities
) -> FoldedNetwork:
    """The same without the nodes outside `envelope`; all edges join nodes inside."""
    params, means = jax.tree.map(np.asarray, (folded.params, folded.means))
    cut = compact(config, params, means, envelope, room)
    rows = np.array(folded.edges.row)
    for i, linear in enumerate(linear_layers(config.n_layer)):
        here = folded.edges.matrix == i
        rows[here] = np.searchsorted(cut.columns[linear.source], rows[here])
    return folded._replace(edges=folded.edges._replace(row=rows), cut=cut)


class Ablator:
    """One model and the edges that can be removed from it.

    Args:
      subject: The full model, and what removed nodes are held at and removed edges carry.
      edges: Of `edge_set`.
      prune: Batching, and how nodes are removed.
      envelope: {node site: [width]}, the nodes that variants may keep; where that saves enough, the others
        are cut away, which changes rounding alone.  All by default.

    Attributes:
      network: The network, with biases.
      folded: What its variants share, uncalibrated.
      whole: Masks that keep everything that is not banned, nor cut away.
    """

    def __init__(self, subject: Subject, edges: EdgeSet, prune: PruneConfig, envelope: Masks | None = None):
        model = with_biases(subject.model)
        self.network = model.network
        folded = FoldedNetwork(dict(model.params), dict(subject.means), edges, 1.0, 0.0)
        everything = subject.everything
        if envelope is not None and can_cut(prune.ablation, subject.means):
            judged = ROUNDS * int(np.sum(edges.matrix >= 0)) + prune.edge_steps
            if room := even_room(model.config, envelope, judged):
                folded = _without_nodes(model.config, folded, envelope, room)
                everything = dict(envelope)
        self.folded: FoldedNetwork = jax.tree.map(jnp.asarray, folded)
        self.whole: Masks = {**everything, EDGES: np.ones(len(edges.matrix), np.float32)}
        devices = tuple(jax.devices())
        self._prober = shared_prober(self.network, prune.batching, devices, ablated_difference)
        self._everywhere = replicate(self.folded, devices)

    def differences(
        self, variants: Sequence[Masks], pairs: AnyPairs, calibration: Calibration = UNCALIBRATED
    ) -> np.ndarray:
        """Calibrated l[answer A] - l[answer B] of every variant, float32 [variants, N, 2]."""
        asked = [(variant, pairs) for variant in variants]
        return np.array(self._prober.differences(self._calibrated(calibration), asked))

    def losses(self, variants: Sequence[Masks], pairs: AnyPairs, calibration: Calibration) -> np.ndarray:
        """Calibrated task loss of every variant, float32 [variants]."""
        return np.asarray(jax.vmap(loss_of_difference)(self.differences(variants, pairs, calibration)))

    def misses(self, variants: Sequence[Masks], by: JudgedBy, estimate: bool = False) -> list[float]:
        """By how much every variant's loss, calibrated anew, is above what it may be; see `Prober.misses`."""
        asked = [(variant, by) for variant in variants]
        return self._prober.misses(self._everywhere, asked, [estimate] * len(asked))

    def calibrate(self, variant: Masks, pairs: AnyPairs) -> Calibration:
        """Scale and shift fitted to the variant's answers."""
        ((scale, shift, _),) = self._prober.calibrations(list(self.differences([variant], pairs)))
        return Calibration(scale, shift)

    def fitted_losses(self, differences: np.ndarray) -> list[float]:
        """The least loss that any calibration gives each of `differences` [variants, N, 2]."""
        return [loss for _, _, loss in self._prober.calibrations(list(differences))]

    def measure(
        self, variant: Masks, train: AnyPairs, select: AnyPairs, test: AnyPairs
    ) -> tuple[Calibration, dict[str, float]]:
        """Calibration on the training pairs, and figures of the three splits; see `Prober.measure`."""
        return self._prober.measure(self._everywhere, variant, train, select, test)

    def attributions(self, variant: Masks, pairs: AnyPairs, calibration: Calibration) -> Masks:
        """First-order estimates of how much the calibrated loss rises when a node or an edge is removed."""
        slopes = self._prober.slopes(self._calibrated(calibration), variant, pairs)
        return {name: -slope for name, slope in slopes.items()}

    def _calibrated(self, calibration: Calibration) -> FoldedNetwork:
        scale, shift = map(np.float32, (calibration.scale, calibration.shift))
        return self._everywhere._replace(scale=scale, shift=shift)

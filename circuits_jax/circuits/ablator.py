"""One network of which nodes and edges can be removed, many variants of it in one compiled program.

What a variant keeps is one dict, {node site: float32 [width]} and EDGES: float32 [C], 1 on what is kept, so
that the searches and the fits of node pruning serve edges as they are.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.circuits.ablation import Means, full_masks
from circuits_jax.circuits.circuit import Calibration
from circuits_jax.circuits.cut import masked_difference
from circuits_jax.circuits.edges import EdgeSet, fold, with_biases
from circuits_jax.circuits.probes import PairArrays, Prober
from circuits_jax.circuits.search import Masks
from circuits_jax.circuits.spread import replicate
from circuits_jax.config import PruneConfig
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.tasks.metrics import loss_of_difference

EDGES = "edges"
UNCALIBRATED = Calibration(1.0, 0.0)


class Network(NamedTuple):
    """What `ablated_difference` runs; arrays only.

    Attributes:
      params: With biases.
      means: {site: [width]}, what removed nodes are held at and removed edges carry.
      edges: Of `edge_set`, C of them.
      scale, shift: Of the calibration.
    """

    params: Params
    means: Means
    edges: EdgeSet
    scale: jax.Array | float
    shift: jax.Array | float


def ablated_difference(model: Transformer, network: Network, kept: Masks, pairs: PairArrays) -> jax.Array:
    """The calibrated l[answer A] - l[answer B] with nodes and edges removed, float32 [N, 2]."""
    params, means, edges, scale, shift = network
    nodes = {site: mask for site, mask in kept.items() if site != EDGES}
    params = fold(model.config, params, means, edges, kept[EDGES])
    return scale * masked_difference(model, (params, means), (), nodes, pairs) + shift


class Ablator:
    """One network and the edges that can be removed from it.

    Args:
      model, params: The full network.
      means: {site: [width]}, what removed nodes are held at and removed edges carry.
      edges: Of `edge_set`.
      prune: Batching.

    Attributes:
      model: The network, with biases.
      network: What its variants share, uncalibrated.
      whole: Masks that keep everything.
    """

    def __init__(self, model: Transformer, params: Params, means: Means, edges: EdgeSet, prune: PruneConfig):
        self.model, params = with_biases(model, params)
        network = Network(dict(params), dict(means), edges, 1.0, 0.0)
        self.network: Network = jax.tree.map(jnp.asarray, network)
        self.whole: Masks = {**full_masks(model.config), EDGES: np.ones(len(edges.matrix), np.float32)}
        devices = tuple(jax.devices())
        self._prober = _prober(self.model, PruneConfig(batching=prune.batching), devices)
        self._everywhere = replicate(self.network, devices)

    def differences(
        self, variants: Sequence[Masks], pairs: PairArrays, calibration: Calibration = UNCALIBRATED
    ) -> np.ndarray:
        """Calibrated l[answer A] - l[answer B] of every variant, float32 [variants, N, 2]."""
        asked = [(variant, pairs) for variant in variants]
        return np.array(self._prober.differences(self._calibrated(calibration), asked))

    def losses(self, variants: Sequence[Masks], pairs: PairArrays, calibration: Calibration) -> np.ndarray:
        """Calibrated task loss of every variant, float32 [variants]."""
        return np.asarray(jax.vmap(loss_of_difference)(self.differences(variants, pairs, calibration)))

    def misses(
        self, variants: Sequence[Masks], pairs: PairArrays, limit: float, estimate: bool = False
    ) -> list[float]:
        """By how much the loss of every variant, calibrated anew, is above `limit`; see `Prober.misses`."""
        asked = [(variant, pairs) for variant in variants]
        return self._prober.misses(self._everywhere, asked, limit, [estimate] * len(asked))

    def calibrate(self, variant: Masks, pairs: PairArrays) -> Calibration:
        """Scale and shift fitted to the variant's answers."""
        ((scale, shift, _),) = self._prober.calibrations(list(self.differences([variant], pairs)))
        return Calibration(scale, shift)

    def measure(
        self, variant: Masks, train: PairArrays, heldout: PairArrays
    ) -> tuple[Calibration, dict[str, float]]:
        """Calibration on the training pairs, and figures of both splits; see `Prober.measure`."""
        return self._prober.measure(self._everywhere, variant, train, heldout)

    def attributions(self, variant: Masks, pairs: PairArrays, calibration: Calibration) -> Masks:
        """First-order estimates of how much the calibrated loss rises when a node or an edge is removed."""
        slopes = self._prober.slopes(self._calibrated(calibration), variant, pairs)
        return {name: -slope for name, slope in slopes.items()}

    def _calibrated(self, calibration: Calibration) -> Network:
        scale, shift = map(np.float32, (calibration.scale, calibration.shift))
        return self._everywhere._replace(scale=scale, shift=shift)


@functools.lru_cache(maxsize=8)
def _prober(model: Transformer, prune: PruneConfig, devices: tuple[jax.Device, ...]) -> Prober:
    """One for all circuits of a model, and so one compilation."""
    return Prober(model, prune, devices, ablated_difference)

"""The audit's interventions as compiled programs, one of each kind, shared by all circuits of a model.

Masks come as stacks {site: [S, width]}; every one of them meets every pair, on the engine that prunes
(`pruning.probes`, `pruning.runner`).  Letters in shapes: S sets of masks, N pairs, R single prompts.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from circuits_jax.circuits.ablation.competition import constant_competitors, without_topk
from circuits_jax.circuits.ablation.donors import Donors, donated
from circuits_jax.circuits.ablation.means import Means
from circuits_jax.circuits.ablation.pairs import PairBatch, pair_difference
from circuits_jax.circuits.audit.interchange import Rows
from circuits_jax.circuits.masks import Masks
from circuits_jax.circuits.pruning.compaction import Held, difference_held, masked_difference
from circuits_jax.circuits.pruning.probes import Prober, shared_prober
from circuits_jax.circuits.pruning.runner import replicate
from circuits_jax.model.taps import mix
from circuits_jax.model.transformer import Params, Transformer


class Interventions:
    """The compiled interventions on models of one configuration.

    Args:
      network: Decides the configuration.
      devices: To spread over; all by default.
    """

    def __init__(self, network: Transformer, devices: Sequence[jax.Device] | None = None):
        self._devices = tuple(devices or jax.devices())
        self._ablated, self._swapped, self._competing, self._rows = (
            shared_prober(network, "auto", self._devices, answer)
            for answer in (masked_difference, _swap, _compete, _ask)
        )

    @property
    def compilations(self) -> int:
        """How many programs were compiled."""
        probers = (self._ablated, self._swapped, self._competing, self._rows)
        return sum(prober.compilations for prober in probers)

    def ablated(self, params: Params, masks: Masks, means: Means, pairs: PairBatch) -> np.ndarray:
        """Logit differences [S, N, 2] with all nodes outside the masks mean-ablated."""
        return self._call(self._ablated, (params, means, ()), masks, pairs)

    def swapped(
        self,
        params: Params,
        masks: Masks,
        donors: Donors,
        pairs: PairBatch,
        donor_params: Params | None = None,
    ) -> np.ndarray:
        """The same, those nodes taking their values from the donors, run with `donor_params` if given."""
        shared = params, params if donor_params is None else donor_params
        return self._call(self._swapped, shared, masks, (*pairs, *donors))

    def competing(
        self, params: Params, masks: Masks, entry: Means, means: Means, pairs: PairBatch
    ) -> np.ndarray:
        """As `ablated`, those nodes entering AbsTopK's competition as the constants `entry`."""
        return self._call(self._competing, (params, entry, means), masks, pairs)

    def asked(
        self, params: Params, masks: Masks, means: Means, answers: np.ndarray, rows: Rows
    ) -> np.ndarray:
        """l[answers[0]] - l[answers[1]] after each row, float32 [S, R]; nodes outside the masks ablated."""
        return self._call(self._rows, (params, means, np.asarray(answers)), masks, rows)

    def calibrated(self, differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scales and shifts, float32 [S], each fitted to one of `differences` [S, N, 2]."""
        scales, shifts, _ = zip(*self._ablated.calibrations(list(differences)), strict=True)
        return np.float32(scales), np.float32(shifts)

    def _call(self, prober: Prober, shared: Any, masks: Masks, data: Any) -> np.ndarray:
        """The answers [S, ...] with every set of masks."""
        count = len(next(iter(masks.values())))
        sets = [{site: np.asarray(mask[i], np.float32) for site, mask in masks.items()} for i in range(count)]
        return np.stack(prober.differences(replicate(shared, self._devices), [(each, data) for each in sets]))


def _swap(network: Transformer, shared: tuple, masks: Masks, data: tuple) -> jax.Array:
    """The donors run in the full model, whatever edges `params` lack."""
    params, donor_params = shared
    pairs, donors = PairBatch(*data[:3]), Donors(*data[3:])
    given = donated(network, donor_params, tuple(masks), pairs.last, donors)
    return difference_held(network, params, Held(given), masks, pairs)


def _compete(network: Transformer, shared: tuple, masks: Masks, pairs: PairBatch) -> jax.Array:
    params, entry, means = shared
    tap = constant_competitors(network.config, masks, entry, means)
    return pair_difference(without_topk(network), params, pairs, tap)


def _ask(network: Transformer, shared: tuple, masks: Masks, rows: Rows) -> jax.Array:
    params, means, answers = shared
    logits, _ = network.apply(params, rows.tokens, tap=mix(masks, means), at=rows.at)
    return logits[:, answers[0]] - logits[:, answers[1]]

"""Judging candidate circuits: masked logit differences, calibrated losses and slopes, many in one program.

Pairs are taken in blocks of BLOCK, so that one compilation serves training and held-out pairs, quick looks at
a few of them, and every task whose prompts have the same (rounded) length.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from circuits_jax.circuits.ablation import Means
from circuits_jax.circuits.calibration import calibrate
from circuits_jax.circuits.circuit import Calibration
from circuits_jax.circuits.cut import Narrow, masked_difference
from circuits_jax.circuits.spread import Spread, choose_batching, split_devices
from circuits_jax.config import PruneConfig
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.tasks.metrics import loss_of_difference

BLOCK = 32  # pairs
QUICK = 2  # blocks of a first look
SURE = 2.0  # standard errors by which a first look must miss the target to be believed
AT_ONCE = 16  # items of one device in one call

_SIGNS = np.array([1.0, -1.0])  # right is a positive difference on prompt A, a negative one on B

Masks = Mapping[str, np.ndarray]
PairArrays = tuple[np.ndarray, np.ndarray, np.ndarray]  # tokens int [N, 2, T], last [N], answers [N, 2]


def node_difference(
    model: Transformer, shared: tuple[Params, Means, Narrow | tuple], kept: Masks, pairs: PairArrays
) -> jax.Array:
    """l[answer A] - l[answer B] with only the nodes of `kept`.

    Args:
      model: The network, with biases.
      shared: (its parameters, means of the node sites, what it is cut to).
      kept: {node site: [width]}.
      pairs: See `PairArrays`.
    """
    params, means, narrow = shared
    return masked_difference(model, (params, means), narrow, kept, pairs)


class Prober:
    """The compiled functions that judge circuits of models of one configuration.

    Args:
      model: The network, with biases.
      config: Batching.
      devices: To spread over.
      look: (model, shared, masks, pairs) -> logit differences [N, 2].
    """

    def __init__(
        self,
        model: Transformer,
        config: PruneConfig,
        devices: Sequence[jax.Device],
        look: Callable[..., jax.Array] = node_difference,
    ):
        self._devices = devices

        def difference(shared: tuple, item: tuple[Masks, PairArrays]) -> jax.Array:
            return look(model, shared, *item)

        def slope(shared: tuple, item: tuple[Masks, PairArrays]) -> Masks:
            kept, batch = item
            return jax.grad(lambda masks: loss_of_difference(difference(shared, (masks, batch))))(kept)

        def fit(_: tuple, found: jax.Array) -> tuple[jax.Array, ...]:
            return calibrate(found)

        mesh, batching = split_devices(devices, len(devices)), choose_batching(config.batching)
        self._difference, self._slope, self._fit = (
            Spread(f, mesh, batching) for f in (difference, slope, fit)
        )

    @property
    def compilations(self) -> int:
        """How many programs were compiled."""
        return sum(each.compilations for each in (self._difference, self._slope, self._fit))

    def differences(self, shared: tuple, asked: Sequence[tuple[Masks, PairArrays]]) -> list[np.ndarray]:
        """l[answer A] - l[answer B] of every (masks, pairs) asked for, each float32 [N, 2].

        Args:
          shared: What `look` takes.
          asked: Pairs of any number, of one length.
        """
        items = [(kept, block) for kept, pairs in asked for block in blocks(pairs)]
        found = iter(self._by_rounds(self._difference, shared, items))
        return [np.concatenate([next(found) for _ in blocks(pairs)])[: len(pairs[0])] for _, pairs in asked]

    def slopes(self, shared: tuple, kept: Masks, pairs: PairArrays) -> Masks:
        """The task loss' derivative by each node's mask, meaned over the pairs: {site: float32 [width]}.

        The last block counts pairs twice where BLOCK does not divide them.
        """
        items = [(kept, block) for block in blocks(pairs)]
        found = self._by_rounds(self._slope, shared, items)
        return {site: np.mean([each[site] for each in found], axis=0) for site in kept}

    def calibrations(self, found: Sequence[np.ndarray]) -> list[tuple[float, float, float]]:
        """(scale, shift, loss) fitted to each of equally many logit differences [N, 2]."""
        return [tuple(map(float, fitted)) for fitted in self._by_rounds(self._fit, (), list(found))]

    def misses(
        self,
        shared: tuple,
        asked: Sequence[tuple[Masks, PairArrays]],
        limit: float,
        estimate: Sequence[bool] = (),
    ) -> list[float]:
        """By how much the calibrated loss of every circuit is above `limit` on its pairs (METHOD 6, step 5).

        A first look at a few pairs settles the candidates that are far off; only the others see them all.

        Args:
          shared: What `look` takes.
          asked: (masks, pairs) each.
          limit: Of the loss, in nats.
          estimate: Of each, whether what the first look says will do.
        """
        estimate = estimate or [False] * len(asked)
        seen, unseen = slice(QUICK * BLOCK), slice(QUICK * BLOCK, None)
        looks = self.differences(shared, [(kept, _part(pairs, seen)) for kept, pairs in asked])
        # Repeated to the full length, so that both looks calibrate in one program.
        full = [np.resize(look, (len(pairs[0]), 2)) for look, (_, pairs) in zip(looks, asked, strict=True)]
        partial = [len(look) < len(pairs[0]) for look, (_, pairs) in zip(looks, asked, strict=True)]
        misses = []
        for loss, error, some, enough in zip(*self._losses(full), partial, estimate, strict=True):
            misses.append(loss - limit - (SURE * error if some and not enough else 0.0))
        unsure = [i for i, miss in enumerate(misses) if miss <= 0 and partial[i] and not estimate[i]]
        rest = self.differences(shared, [(asked[i][0], _part(asked[i][1], unseen)) for i in unsure])
        whole = [np.concatenate([looks[i], more]) for i, more in zip(unsure, rest, strict=True)]
        for i, loss in zip(unsure, self._losses(whole)[0], strict=True):
            misses[i] = loss - limit
        return misses

    def measure(
        self, shared: tuple, kept: Masks, train: PairArrays, heldout: PairArrays
    ) -> tuple[Calibration, dict[str, float]]:
        """Calibration on the training pairs; loss and accuracy of both splits, with it and without."""
        found = self.differences(shared, [(kept, train), (kept, heldout)])
        scale, shift, _ = self.calibrations(found[:1])[0]
        figures = {}
        for split, difference in zip(("train", "heldout"), found, strict=True):
            for kind, answered in (("", difference), ("calibrated_", scale * difference + shift)):
                figures[f"{split}/{kind}loss"] = float(_losses(answered).mean())
                figures[f"{split}/{kind}accuracy"] = float((answered * _SIGNS > 0).mean())
        return Calibration(scale, shift), figures

    def _losses(self, found: Sequence[np.ndarray]) -> tuple[list[float], list[float]]:
        """Calibrated losses of logit differences [N, 2], and their standard errors for a first look."""
        fitted = self.calibrations(found)
        looked_at = (QUICK * BLOCK) ** 0.5
        errors = [
            float(_losses(scale * difference + shift).mean(axis=1).std()) / looked_at
            for difference, (scale, shift, _) in zip(found, fitted, strict=True)
        ]
        return [loss for _, _, loss in fitted], errors

    def _by_rounds(self, program: Spread, shared: tuple, items: list) -> list:
        most = AT_ONCE * len(self._devices)
        rounds = [program(shared, items[start : start + most]) for start in range(0, len(items), most)]
        return [result for results in rounds for result in results]


def blocks(pairs: PairArrays) -> list[PairArrays]:
    """`pairs` in blocks of BLOCK, the last filled up from the front."""
    count = len(pairs[0])
    return [
        tuple(np.take(x, range(start, start + BLOCK), axis=0, mode="wrap") for x in pairs)
        for start in range(0, count, BLOCK)
    ]


def _part(pairs: PairArrays, part: slice) -> PairArrays:
    return tuple(x[part] for x in pairs)


def _losses(difference: np.ndarray) -> np.ndarray:
    """Cross-entropy of every prompt, [N, 2]."""
    return np.logaddexp(0, -difference * _SIGNS)

"""Judging candidate circuits: masked logit differences, calibrated losses and slopes, many in one program.

Pairs are taken in blocks of BLOCK, so that one compilation serves the pairs of all splits, quick looks at
a few of them, and every task whose prompts have the same (rounded) length.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from circuits_jax.circuits.ablation.donors import AnyPairs
from circuits_jax.circuits.circuit import Calibration
from circuits_jax.circuits.masks import Masks
from circuits_jax.circuits.pruning.compaction import masked_difference
from circuits_jax.circuits.pruning.runner import Runner, choose_batching
from circuits_jax.data.programs.words import SPLITS
from circuits_jax.model.transformer import Transformer
from circuits_jax.tasks.calibration import calibrate
from circuits_jax.tasks.metrics import loss_of_difference

BLOCK = 32  # pairs
QUICK = 2  # blocks of a first look
SURE = 2.0  # standard errors by which a first look must miss the target to be believed

_SIGNS = np.array([1.0, -1.0])  # right is a positive difference on prompt A, a negative one on B

Answer = Callable[[Transformer, Any, Masks, Any], jax.Array]
"""(network, shared, masks, data) -> a value of each row of `data`, such as the logit differences of pairs."""
OfAnswers = Callable[[Any, jax.Array], jax.Array]
"""(shared, answers [N, 2]) -> what slopes are of."""


class Asked(NamedTuple):
    """Pairs, and the calibrated loss that a circuit may have on them, in nats."""

    pairs: AnyPairs
    loss: float


JudgedBy = Sequence[Asked]
"""What is asked of a circuit: of the pairs that it is calibrated on, then of others."""


def task_loss(shared: Any, answered: jax.Array) -> jax.Array:
    """The task loss of logit differences [N, 2]."""
    del shared
    return loss_of_difference(answered)


class Prober:
    """The compiled functions that judge circuits of models of one configuration.

    Args:
      network: With biases.
      batching: Of `prune.batching`.
      devices: To spread over.
      answer: What a network with some masks answers; pruning's own by default.
      value: What slopes are of; the task loss by default.
    """

    def __init__(
        self,
        network: Transformer,
        batching: str,
        devices: Sequence[jax.Device],
        answer: Answer = masked_difference,
        value: OfAnswers = task_loss,
    ):
        def difference(shared: Any, item: tuple[Masks, Any]) -> jax.Array:
            return answer(network, shared, *item)

        def slope(shared: Any, item: tuple[Masks, Any]) -> Masks:
            kept, batch = item
            return jax.grad(lambda masks: value(shared, difference(shared, (masks, batch))))(kept)

        def fit(_: tuple, found: jax.Array) -> tuple[jax.Array, ...]:
            return calibrate(found)

        self._difference, self._slope, self._fit = (
            Runner(f, devices, batching) for f in (difference, slope, fit)
        )

    @property
    def compilations(self) -> int:
        """How many programs were compiled."""
        return sum(each.compilations for each in (self._difference, self._slope, self._fit))

    def differences(self, shared: Any, asked: Sequence[tuple[Masks, Any]]) -> list[np.ndarray]:
        """The answers for every (masks, data) asked for, such as float32 [N, 2] of N pairs.

        Args:
          shared: What `answer` takes.
          asked: Data are tuples of arrays of N rows; N may differ, the shapes of rows may not.
        """
        items = [(kept, block) for kept, data in asked for block in blocks(data)]
        found = iter(self._difference.in_rounds(shared, items))
        return [np.concatenate([next(found) for _ in blocks(data)])[: len(data[0])] for _, data in asked]

    def slopes(self, shared: Any, kept: Masks, pairs: AnyPairs) -> Masks:
        """The task loss' (or `value`'s) derivative by each mask, averaged over the pairs: as `kept`.

        The last block counts pairs twice where BLOCK does not divide them.
        """
        found = self._slope.in_rounds(shared, [(kept, block) for block in blocks(pairs)])
        return {site: np.mean([each[site] for each in found], axis=0) for site in kept}

    def calibrations(self, found: Sequence[np.ndarray]) -> list[tuple[float, float, float]]:
        """(scale, shift, loss) fitted to each of equally many logit differences [N, 2]."""
        return [tuple(map(float, fitted)) for fitted in self._fit.in_rounds((), list(found))]

    def misses(
        self,
        shared: Any,
        asked: Sequence[tuple[Masks, JudgedBy]],
        estimate: Sequence[bool] = (),
    ) -> list[float]:
        """By how much every circuit's calibrated loss is above what it may be, where that is most.

        A first look at a few pairs settles the candidates that are far off; only the others see them all.
        An estimate is that of first looks.

        Args:
          shared: What `answer` takes.
          asked: (masks, what they are judged by) each.
          estimate: Of each, whether what the first look says will do.
        """
        estimate = estimate or [False] * len(asked)
        seen, unseen = slice(QUICK * BLOCK), slice(QUICK * BLOCK, None)
        counts = [len(by[0].pairs[0]) for _, by in asked]
        limits = [by[0].loss for _, by in asked]
        looks = self.differences(shared, [(kept, _part(by[0].pairs, seen)) for kept, by in asked])
        # Repeated to the full length, so that both looks calibrate in one program.
        full = [np.resize(look, (count, 2)) for look, count in zip(looks, counts, strict=True)]
        partial = [len(look) < count for look, count in zip(looks, counts, strict=True)]
        fits, errors = self._fits(full)
        misses = []
        for (_, _, loss), limit, error, some, enough in zip(
            fits, limits, errors, partial, estimate, strict=True
        ):
            misses.append(loss - limit - (SURE * error if some and not enough else 0.0))
        unsure = [i for i, miss in enumerate(misses) if miss <= 0 and partial[i] and not estimate[i]]
        rest = self.differences(shared, [(asked[i][0], _part(asked[i][1][0].pairs, unseen)) for i in unsure])
        whole = [np.concatenate([looks[i], more]) for i, more in zip(unsure, rest, strict=True)]
        for i, fit in zip(unsure, self._fits(whole)[0], strict=True):
            fits[i], misses[i] = fit, fit[2] - limits[i]
        # Of what is over one bound, and no estimate, it is enough to know that.
        undecided = [i for i, miss in enumerate(misses) if miss <= 0 or estimate[i]]
        others = [
            (i, _part(pairs, seen) if estimate[i] else pairs, loss)
            for i in undecided
            for pairs, loss in asked[i][1][1:]
        ]
        found = self.differences(shared, [(asked[i][0], pairs) for i, pairs, _ in others])
        for (i, _, most), difference in zip(others, found, strict=True):
            scale, shift, _ = fits[i]
            misses[i] = max(misses[i], float(_losses(scale * difference + shift).mean()) - most)
        return misses

    def measure(
        self, shared: Any, kept: Masks, train: AnyPairs, select: AnyPairs, test: AnyPairs
    ) -> tuple[Calibration, dict[str, float]]:
        """Calibration on the training pairs; loss and accuracy of the three splits, with it and without."""
        found = self.differences(shared, [(kept, pairs) for pairs in (train, select, test)])
        scale, shift, _ = self.calibrations(found[:1])[0]
        figures = {}
        for split, difference in zip(SPLITS, found, strict=True):
            for kind, answered in (("", difference), ("calibrated_", scale * difference + shift)):
                figures[f"{split}/{kind}loss"] = float(_losses(answered).mean())
                figures[f"{split}/{kind}accuracy"] = float((answered * _SIGNS > 0).mean())
        return Calibration(scale, shift), figures

    def _fits(self, found: Sequence[np.ndarray]) -> tuple[list[tuple[float, float, float]], list[float]]:
        """(scale, shift, loss) for logit differences [N, 2]; the losses' standard errors for a first look."""
        fitted = self.calibrations(found)
        looked_at = (QUICK * BLOCK) ** 0.5
        errors = [
            float(_losses(scale * difference + shift).mean(axis=1).std()) / looked_at
            for difference, (scale, shift, _) in zip(found, fitted, strict=True)
        ]
        return fitted, errors


def shared_prober(
    network: Transformer,
    batching: str,
    devices: Sequence[jax.Device],
    answer: Answer = masked_difference,
    value: OfAnswers = task_loss,
) -> Prober:
    """One Prober for all callers with the same arguments, and so one compilation: pruning, edges and audits.

    The functions must outlive the call; arrays belong into `shared` and not into a closure.
    """
    return _prober(network, choose_batching(batching), tuple(devices), answer, value)


_prober = functools.lru_cache(maxsize=16)(Prober)


def blocks(data: Any) -> list[Any]:
    """`data`, a tuple of arrays of N rows, in blocks of BLOCK rows, the last filled up from the front."""
    count = len(data[0])
    return [
        jax.tree.map(lambda x, at=start: np.take(x, range(at, at + BLOCK), axis=0, mode="wrap"), data)
        for start in range(0, count, BLOCK)
    ]


def _part(pairs: AnyPairs, part: slice) -> AnyPairs:
    return jax.tree.map(lambda x: x[part], pairs)


def _losses(difference: np.ndarray) -> np.ndarray:
    """Cross-entropy of every prompt, [N, 2]."""
    return np.logaddexp(0, -difference * _SIGNS)

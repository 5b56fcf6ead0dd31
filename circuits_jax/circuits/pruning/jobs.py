"""What pruning takes and what it gives: jobs, learnt masks, circuits as masks."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from circuits_jax.circuits.ablation.donors import AnyPairs
from circuits_jax.circuits.circuit import Calibration
from circuits_jax.circuits.masks import Masks
from circuits_jax.circuits.pruning.fit import PruneSettings
from circuits_jax.circuits.pruning.probes import Asked, JudgedBy
from circuits_jax.circuits.pruning.taus import Taus
from circuits_jax.config import PruneConfig
from circuits_jax.tasks.task import Pairs

ROUNDING = 1e-6  # by which the same loss may differ in numpy and in a compiled program
OWN = 1.1  # how many times its own loss a model that misses the limit is allowed on training pairs


class Splits(NamedTuple):
    """A task's pairs: those that masks are learnt on, choices are made by, and figures are reported of."""

    train: Pairs
    select: Pairs
    test: Pairs


class FitRecord(NamedTuple):
    """One look at the masks while they are learnt: the step, nodes kept, and its batch's task loss.

    Before the first step there is no loss.
    """

    step: int
    nodes: int
    loss: float | None


@dataclasses.dataclass(frozen=True)
class Pruned:
    """What pruning found for one task.

    Attributes:
      masks: {node site: float32 [width]} of 0 and 1.
      calibration: Fitted on the training pairs.
      metrics: Figures of circuit and full model on the three splits, and the run's own settings.
      met_target: Whether the calibrated loss on select pairs is at most the target.
      mediocre: Whether the full model itself misses the target on select pairs.
      given_up: Whether the search ended early, so far does the circuit miss the target on select pairs.
      history, taus: Of `Fitted`, if they are known.
    """

    masks: Masks
    calibration: Calibration
    metrics: dict[str, float]
    met_target: bool
    mediocre: bool
    given_up: bool = False
    history: tuple[FitRecord, ...] = ()
    taus: Taus | None = None


class Fitted(NamedTuple):
    """Masks that were learnt.

    Attributes:
      taus: {node site: float32 [width]}.
      history: How it went.
    """

    taus: Taus
    history: tuple[FitRecord, ...] = ()


class FirstNodes(NamedTuple):
    """The first nodes by tau, as many as the target needs.

    Attributes:
      masks: {node site: float32 [width]} of 0 and 1.
      holds: Whether they hold the target on all pairs that they were asked to hold it on.
    """

    masks: Masks
    holds: bool


class Job(NamedTuple):
    """One run: a task's pairs, a seed and settings.

    Attributes:
      task: The task's name.
      train, select, test: Its pairs as arrays, all cut to one length.
      answers: Its answer tokens.
      seed: Of tau and of the pairs' order.
      settings: Its own settings.
      full: Figures of the full model on its pairs; their names begin with "full/".
    """

    task: str
    train: AnyPairs
    select: AnyPairs
    test: AnyPairs
    answers: np.ndarray
    seed: int
    settings: PruneSettings
    full: Mapping[str, float]

    @property
    def length(self) -> int:
        """Tokens of a prompt; only jobs of one length share a program."""
        return self.train[0].shape[-1]


def levels(
    prune: PruneConfig, train: AnyPairs, select: AnyPairs, full: Mapping[str, float]
) -> list[JudgedBy]:
    """What a search may ask of a circuit, the most first; the last is of training pairs alone.

    A share of the target is asked (`prune.slack`) of training and of select pairs, so that others hold the
    target too; then the target of select pairs.  Where the model itself has more than that share on training
    pairs, as one has that knows the task but for some templates to learn from, little more than it has is
    allowed there then: else nothing less than all of it might do.  The same is asked of controls.

    Args:
      prune: Settings of the search.
      train, select: The task's pairs.
      full: Figures of the full model (`Job.full`).
    """
    limit, target, own = prune.limit, prune.target, full["full/train/calibrated_loss"]
    alone = [Asked(train, limit)]
    if not prune.hold_select or all(map(np.array_equal, jax.tree.leaves(train), jax.tree.leaves(select))):
        return [alone]
    found = [[*alone, Asked(select, bound)] for bound in sorted({limit, target})]
    if own > limit:
        found.append([Asked(train, own * OWN), Asked(select, target)])
    return [*found, alone]


def judged_by(
    prune: PruneConfig, train: AnyPairs, select: AnyPairs, figures: Mapping[str, float]
) -> JudgedBy:
    """What is asked of the parts of a circuit: of `levels`, the first that it holds itself.

    Args:
      prune: Settings of the search.
      train, select: The task's pairs.
      figures: Of the circuit that the search begins with, and of the full model (`Pruned.metrics`).
    """
    losses = [figures[f"{split}/calibrated_loss"] - ROUNDING for split in ("train", "select")]
    asked = levels(prune, train, select, figures)
    held = (by for by in asked if all(loss <= each.loss for loss, each in zip(losses, by, strict=False)))
    return next(held, asked[-1])

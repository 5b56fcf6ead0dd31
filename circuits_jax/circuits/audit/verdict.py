"""The verdict on a circuit, and how it was decided, as data (docs/method.md, "Audit")."""

import dataclasses
import math

from circuits_jax.circuits.audit.intervals import Figure
from circuits_jax.config import AuditConfig

FAITHFUL, NO_BETTER, NOT_SHOWN = "faithful", "no better than the control", "not shown"
NOT_RUN = f"{NOT_SHOWN} (full controls not run)"  # nothing failed, and not all was asked


@dataclasses.dataclass(frozen=True)
class Criterion:
    """One question of the verdict.

    Attributes:
      name: In words.
      figure: What was measured; None if it was not.
      bound: What it is compared with.
      at_most: Whether it must be at most the bound; else at least.
      passed: Whether it is; None if it was not measured, or by too little to pass.
      clear: Whether the whole interval lies on the same side of the bound as the value.
    """

    name: str
    figure: Figure | None
    bound: float
    at_most: bool
    passed: bool | None
    clear: bool | None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The verdict and what decided it.

    Attributes:
      verdict: In words.
      failed: Names of the criteria that decided against "faithful".
      close: Names of the criteria whose interval holds values of both sides of the bound.
      criteria: All of them.
    """

    verdict: str
    failed: tuple[str, ...]
    close: tuple[str, ...]
    criteria: tuple[Criterion, ...]


def judge(name: str, figure: Figure | None, bound: float, at_most: bool) -> Criterion:
    """Compares a figure with its bound; the value decides, the interval says how clearly."""
    if figure is None:
        return Criterion(name, None, bound, at_most, None, None)
    ends = (figure.value, figure.low, figure.high)
    holds = [x <= bound if at_most else x >= bound for x in ends]
    clear = len(set(holds)) == 1 and not any(map(math.isnan, ends))
    return Criterion(name, figure, bound, at_most, holds[0], clear)


@dataclasses.dataclass(frozen=True)
class Measurements:
    """What the verdict is decided by.

    Attributes:
      sufficiency: Calibrated loss on test pairs of the circuit alone.
      necessity: Loss on test pairs of the model without it.
      flips_inside: Share of answers that flip when the circuit's nodes are swapped.
      flips_outside: Share that flip when all others are.
      another_misses: Whether another circuit moved here misses the target.
      smaller: Whether the circuit is smaller than the controls, of each kind.
      beaten: Whether it is not, whatever further draws of the controls might bring.
      full: Whether full controls were run.
    """

    sufficiency: Figure
    necessity: Figure
    flips_inside: Figure
    flips_outside: Figure
    another_misses: Criterion
    smaller: tuple[Criterion, ...]
    beaten: bool
    full: bool


def decide(config: AuditConfig, found: Measurements) -> Verdict:
    """The verdict (docs/method.md, "Audit"); `config` has the thresholds.

    Where full controls were run, a criterion that they leave open has failed: there were too few draws.
    """
    criteria = (
        judge("sufficient", found.sufficiency, config.sufficient, True),
        judge("necessary", found.necessity, config.necessary, False),
        judge("the answer follows the circuit", found.flips_inside, config.flips_inside, False),
        judge("the answer ignores the rest", found.flips_outside, config.flips_outside, True),
        found.another_misses,
        *found.smaller,
    )
    failing = (False, None) if found.full else (False,)
    failed = tuple(criterion.name for criterion in criteria if criterion.passed in failing)
    if not failed:
        verdict = FAITHFUL if found.full else NOT_RUN
    else:
        verdict = NO_BETTER if found.beaten else NOT_SHOWN
    close = tuple(criterion.name for criterion in criteria if criterion.clear is False)
    return Verdict(verdict, failed, close, criteria)

"""What changes with the step: the fraction of weights kept, and the learning rate.

See docs/method.md, "Weight sparsity".

Steps count finished updates: 0 before the first.  All schedules take a Python or a traced step.
"""

import dataclasses
import math
from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from circuits_jax.config import ANNEALS, OptimizerConfig, SparsityConfig
from circuits_jax.config.checks import check_choice


def budget(numel: int, fraction: float | Array) -> int | Array:
    """max(1, floor(numel * fraction)), the entries that a tensor of `numel` entries keeps.

    Args:
      numel: Entries of the tensor, fewer than 2**31.
      fraction: In (0, 1].  A Python float gives Python's floor of the product; a traced float32 gives the
        floor of the exact product, with no rounding however large the tensor.

    Returns:
      int, or int32 scalar for an array.
    """
    if not isinstance(fraction, Array):
        return max(1, math.floor(numel * fraction))
    # fraction = m / 2**24 * 2**exponent; numel * m in 12-bit limbs, whose products fit 32 bits.
    mantissa, exponent = jnp.frexp(fraction.astype(jnp.float32))
    m = (mantissa * 2.0**24).astype(jnp.uint32)
    m_high, m_low = m >> 12, m & 0xFFF
    n_high, n_low = jnp.uint32(numel >> 12), jnp.uint32(numel & 0xFFF)
    whole = n_high * m_high + ((n_high * m_low + n_low * m_high + ((n_low * m_low) >> 12)) >> 12)
    kept = (whole >> jnp.clip(-exponent, 0, 31).astype(jnp.uint32)).astype(jnp.int32)
    return jnp.where(fraction >= 1, numel, jnp.maximum(kept, 1))


@dataclasses.dataclass(frozen=True)
class L0Schedule:
    """Step -> fraction of entries kept: 1 until `start`, then falling to `target` at `end` and staying.

    With p the share of the anneal done, the fraction is 1 - p (1 - target) ("linear") or target**p
    ("exponential").

    Attributes:
      target: Fraction at the end, in (0, 1].
      start: Step up to which everything is kept.
      end: Step from which the fraction is `target`.
      anneal: "linear" or "exponential".
    """

    target: float
    start: int = 0
    end: int = 0
    anneal: str = "linear"

    def __post_init__(self) -> None:
        check_choice("anneal", self.anneal, ANNEALS)

    def __call__(self, step: Array | int) -> Array:
        """The fraction at `step`, float32 scalar."""
        done = (jnp.asarray(step) - self.start).astype(jnp.float32) / max(self.end - self.start, 1)
        done = jnp.clip(done, 0.0, 1.0)
        falling = 1 - done * (1 - self.target) if self.anneal == "linear" else self.target**done
        return jnp.where(jnp.asarray(step) >= self.end, jnp.float32(self.target), falling)

    def budget(self, step: Array | int, numel: int) -> Array:
        """Entries that a tensor of `numel` entries keeps at `step`, int32 scalar.

        From `end` on it is exactly budget(numel, target) of the Python float, not of its float32 rounding.
        """
        final = jnp.int32(budget(numel, self.target))
        return jnp.where(jnp.asarray(step) >= self.end, final, budget(numel, self(step)))


def l0_schedule(config: SparsityConfig, total_steps: int) -> L0Schedule:
    """The schedule of a run of `total_steps` steps; its start and end are rounded to whole steps."""
    return L0Schedule(
        target=config.target,
        start=round(config.anneal_start * total_steps),
        end=round(config.anneal_end * total_steps),
        anneal=config.anneal,
    )


def learning_rate_schedule(
    optimizer: OptimizerConfig, sparsity: SparsityConfig, total_steps: int
) -> Callable[[Array | int], Array]:
    """Step -> learning rate: base x warm-up from 0, then linear decay to 0, x sharkfin.

    The sharkfin factor, 1/sqrt(scheduled fraction kept), rises while the network thins out, as fewer weights
    each have to move further.

    Returns:
      A function from step to a float32 scalar, usable as an optax schedule.
    """
    warmup_steps = int(optimizer.warmup * total_steps)
    fraction = l0_schedule(sparsity, total_steps)

    def learning_rate(step: Array | int) -> Array:
        step = jnp.asarray(step, jnp.float32)
        falling = jnp.clip((total_steps - step) / (total_steps - warmup_steps), 0.0, 1.0)
        rising = jnp.minimum(step / warmup_steps, 1.0) if warmup_steps else 1.0
        sharkfin = 1 / jnp.sqrt(fraction(step)) if optimizer.sharkfin else 1.0
        return optimizer.learning_rate * rising * falling * sharkfin

    return learning_rate

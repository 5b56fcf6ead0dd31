"""Steering: section `steer`."""

import dataclasses
import math

from circuits_jax.config.checks import (
    check_confidence,
    check_fraction,
    check_positive,
    check_seed,
)
from circuits_jax.storage.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class SteerConfig:
    """Turning a sparse node inside a dense model (docs/method.md, "Steering").

    Attributes:
      tasks: Names of the tasks, or files of tasks.
      strengths: Multiples of (B - A) that are written, increasing.
      nodes: Nodes that are written together where none are named.
      pairs: Test pairs that are steered.
      choose_pairs: Training pairs on which the nodes are chosen, and select pairs on which the strength is
        that single figures are of.
      draws: Draws of each random control.
      separation: Share of (A, B) prompts, at least, that a node's values must order for it to be chosen.
      texts: Windows of validation text on which specificity is measured.
      confidence: Of the bands, below 1.
      seed: Of everything that is drawn.
    """

    tasks: tuple[str, ...] = ("single_double_quote", "while_return_true")
    strengths: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
    nodes: int = 1
    pairs: int = 128
    choose_pairs: int = 128
    draws: int = 8
    separation: float = 0.9
    texts: int = 64
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        for field in ("nodes", "pairs", "choose_pairs", "draws", "texts"):
            check_positive(f"steer.{field}", getattr(self, field))
        check_fraction("steer.separation", self.separation)
        check_confidence("steer.confidence", self.confidence)
        if self.texts < 2:
            raise ConfigError(
                f"steer.texts is {self.texts}; one text tells nothing of others, give two or more"
            )
        if not self.tasks:
            raise ConfigError("steer.tasks is empty; name at least one task")
        if not self.strengths or list(self.strengths) != sorted(set(self.strengths)):
            raise ConfigError(f"steer.strengths is {self.strengths}; give increasing numbers")
        if not all(map(math.isfinite, self.strengths)):
            raise ConfigError(f"steer.strengths is {self.strengths}; give finite numbers")
        check_seed("steer.seed", self.seed)

"""Readings of edges: section `readings`."""

import dataclasses

from circuits_jax.config.checks import check_fraction, check_not_negative, check_positive, check_seed


@dataclasses.dataclass(frozen=True)
class ReadingsConfig:
    """Can an edge be told by a rule on tokens?  (docs/method.md, "Readings")

    Attributes:
      pairs: Test pairs that readings are judged on; none that pruning has learnt or chosen by.
      choose_pairs: Training pairs on which the size of a default reading is chosen.
      draws: Random sets of token ids that a reading has to beat.
      recovery: Share of an edge's effect, at least, that acting at the selected tokens keeps and acting
        elsewhere loses.
      coverage: Share of the tokens that a reading selects, at most.
      effect: Rise of the task loss without the edge, in nats, below which an edge is counted apart.
      seed: Of the random sets and of the test pairs.
    """

    pairs: int = 256
    choose_pairs: int = 64
    draws: int = 20
    recovery: float = 0.75
    coverage: float = 0.5
    effect: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        for field in ("pairs", "choose_pairs", "draws"):
            check_positive(f"readings.{field}", getattr(self, field))
        for field in ("recovery", "coverage"):
            check_fraction(f"readings.{field}", getattr(self, field))
        check_not_negative("readings.effect", self.effect)
        check_seed("readings.seed", self.seed)

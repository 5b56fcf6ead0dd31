"""The audit: section `audit`."""

import dataclasses

from circuits_jax.config.checks import (
    check_choice,
    check_confidence,
    check_fraction,
    check_not_negative,
    check_positive,
    check_seed,
)
from circuits_jax.storage.errors import ConfigError

ACDC_COSTS = ("kl", "difference")
LEAST_DRAWS = 40  # two tests corrected together: 1 / (draws + 1) is below 0.05 / 2
QUICK_DRAWS = 4  # random circuits of each kind where controls are not full
CONTROLS, DEFAULT_CONTROLS = ("none", "quick", "full"), "quick"  # each more than the one before


@dataclasses.dataclass(frozen=True)
class AuditConfig:
    """Is a circuit faithful?  Sizes of the examination and its thresholds (docs/method.md, "Audit").

    Attributes:
      pairs: Test pairs a circuit is judged on; none that pruning has learnt or chosen by.
      draws: Random circuits of each kind, and random parts removed for completeness, in a full audit; others
        have at most QUICK_DRAWS.
      natural: Most positions of the validation corpus looked at.
      natural_context: Tokens that such a position has before it, at least.
      confidence: Of the intervals, below 1.
      seeds: Other seeds that a full audit prunes for, to compare nodes.
      control_draws: Draws of each kind of control in a full audit, at least 3: fewer decide nothing.
      relabelled_draws: Draws of the relabelled task in a full audit.
      sufficient: Loss, in nats, that a circuit alone has at most.
      necessary: Loss that the model without the circuit has at least.
      flips_inside: Share of answers that flip, at least, when the circuit's nodes are swapped.
      flips_outside: Share that flips, at most, when the other nodes are.
      control_share: Edges, at most, as a share of those of the median control of each kind.
      seed: Of everything that is drawn.
      score_pairs: Training pairs that orders of edges are found on (docs/statistics.md, "Faithfulness against
        size").
      ig_steps: Points that EAP-IG averages over.
      acdc_thresholds: Of ACDC, in nats, or in logits with acdc_cost "difference".
      acdc_cost: What ACDC keeps low: "kl", of the model's answers from the circuit's, or what the logit
        "difference" loses.
      test_draws: Random circuits, and permutations, of a test (docs/statistics.md, "Tests").
      edge_pairs: Test pairs that effects of single edges are averaged over.
      edge_draws: Random edges measured, at most; a circuit whose edges need more is not tested edge by edge.
      alternatives: Wrong circuits of each kind that the power of a test is measured with.
    """

    pairs: int = 256
    draws: int = 16
    natural: int = 256
    natural_context: int = 16
    confidence: float = 0.95
    seeds: int = 2
    sufficient: float = 0.15
    necessary: float = 0.5
    flips_inside: float = 0.8
    flips_outside: float = 0.2
    control_share: float = 1 / 3
    seed: int = 0
    score_pairs: int = 64
    ig_steps: int = 5
    acdc_thresholds: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
    acdc_cost: str = "kl"
    test_draws: int = 199
    edge_pairs: int = 64
    edge_draws: int = 4000
    alternatives: int = 20
    control_draws: int = 3
    relabelled_draws: int = 5

    def __post_init__(self) -> None:
        for field in ("draws", "natural", "natural_context", "sufficient", "necessary"):
            check_positive(f"audit.{field}", getattr(self, field))
        for field in ("flips_inside", "flips_outside", "control_share"):
            check_fraction(f"audit.{field}", getattr(self, field))
        check_confidence("audit.confidence", self.confidence)
        for field in ("score_pairs", "ig_steps", "edge_pairs", "edge_draws"):
            check_positive(f"audit.{field}", getattr(self, field))
        for threshold in self.acdc_thresholds:
            check_positive("a threshold of audit.acdc_thresholds", threshold)
        check_choice("audit.acdc_cost", self.acdc_cost, ACDC_COSTS)
        check_not_negative("audit.alternatives", self.alternatives)
        if self.test_draws < LEAST_DRAWS:
            raise ConfigError(
                f"audit.test_draws is {self.test_draws}; with fewer than {LEAST_DRAWS} nothing is significant"
            )
        check_not_negative("audit.seeds", self.seeds)
        check_seed("audit.seed", self.seed)
        if self.pairs < 8:
            raise ConfigError(f"audit.pairs is {self.pairs}; fewer than 8 pairs show nothing")
        for field in ("control_draws", "relabelled_draws"):
            if getattr(self, field) < 3:
                raise ConfigError(f"audit.{field} is {getattr(self, field)}; fewer than 3 draws show nothing")
        if self.relabelled_draws < self.control_draws:
            raise ConfigError(
                f"audit.relabelled_draws is {self.relabelled_draws}, fewer than the {self.control_draws} of "
                "audit.control_draws that every kind of control must have; raise it"
            )


def control_choice(controls: str | bool) -> str:
    """One of CONTROLS; true and false, as flags once had them, are the default and none.

    Raises:
      ConfigError: for any other choice.
    """
    name = str(controls).lower() if isinstance(controls, str | bool) else repr(controls)
    name = {"true": DEFAULT_CONTROLS, "false": "none"}.get(name, name)
    check_choice("controls", name, CONTROLS)
    return name

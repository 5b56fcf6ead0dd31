"""AdamW and its schedule: section `optimizer`."""

import dataclasses

from circuits_jax.config.checks import (
    check_choice,
    check_decay,
    check_not_negative,
    check_positive,
)
from circuits_jax.storage.errors import ConfigError

GRADIENT_MODES = ("rescale", "clip")
RMS_ENTRIES = ("trained", "all")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW on gradients of RMS 1 (docs/method.md, "Optimizer").

    Attributes:
      learning_rate: Base rate, before warm-up, decay and sharkfin.
      warmup: Share of training over which the rate rises from 0.
      sharkfin: Whether the rate is multiplied by 1/sqrt(scheduled L0 fraction).
      b1, b2, eps: Adam's.
      weight_decay: Decoupled decay, on matrices only.
      gradient_rms: Root mean square the gradient is brought to, over the entries that rms_entries names.
      gradient_mode: "rescale" (always) or "clip" (only when larger).
      rms_entries: "trained" (of all tensors that are trained) or "all": the entries of a bigram table of
        counts are counted too, with a gradient of 0, so that a step is about as large as with a learned one.
    """

    learning_rate: float = 1e-2
    warmup: float = 0.01
    sharkfin: bool = True
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 0.1
    weight_decay: float = 0.1
    gradient_rms: float = 1.0
    gradient_mode: str = "rescale"
    rms_entries: str = "trained"

    def __post_init__(self) -> None:
        check_positive("optimizer.learning_rate", self.learning_rate)
        check_positive("optimizer.eps", self.eps)
        check_positive("optimizer.gradient_rms", self.gradient_rms)
        check_choice("optimizer.gradient_mode", self.gradient_mode, GRADIENT_MODES)
        check_choice("optimizer.rms_entries", self.rms_entries, RMS_ENTRIES)
        check_decay("optimizer.b1", self.b1)
        check_decay("optimizer.b2", self.b2)
        check_not_negative("optimizer.weight_decay", self.weight_decay)
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"optimizer.warmup is {self.warmup}; it must lie in [0, 1)")

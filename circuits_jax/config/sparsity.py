"""How many weights survive: section `sparsity`."""

import dataclasses

from circuits_jax.config.checks import (
    check_choice,
    check_fraction,
    check_not_negative,
)
from circuits_jax.storage.errors import ConfigError

ANNEALS = ("linear", "exponential")


@dataclasses.dataclass(frozen=True)
class SparsityConfig:
    """How many weights survive each step (docs/method.md, "Weight sparsity").

    Attributes:
      target: Fraction of entries every sparse tensor keeps at the end; 1 trains a dense model.
      anneal_start: Share of training after which the fraction begins to fall from 1.
      anneal_end: Share of training at which it reaches `target`.
      anneal: "linear" or "exponential" in the fraction.
      floor: j: no neuron and no attention channel keeps fewer than j of its incoming, or outgoing, weights.
      sparse_biases: Whether biases are projected.
      sparse_embeddings: Whether token and position embeddings and the unembedding are projected.
    """

    target: float = 1 / 32
    anneal_start: float = 0.01
    anneal_end: float = 0.5
    anneal: str = "linear"
    floor: int = 1
    sparse_biases: bool = True
    sparse_embeddings: bool = True

    def __post_init__(self) -> None:
        check_fraction("sparsity.target", self.target)
        check_choice("sparsity.anneal", self.anneal, ANNEALS)
        if not 0 <= self.anneal_start <= self.anneal_end <= 1:
            raise ConfigError(
                f"sparsity.anneal_start {self.anneal_start} and anneal_end {self.anneal_end} "
                "must satisfy 0 <= start <= end <= 1"
            )
        check_not_negative("sparsity.floor", self.floor)

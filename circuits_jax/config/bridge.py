"""Bridges: section `bridge`."""

import dataclasses

from circuits_jax.config.checks import (
    check_choice,
    check_fraction,
    check_not_negative,
    check_positive,
)
from circuits_jax.storage.errors import ConfigError

ENCODERS = ("abs_top_k", "threshold")


@dataclasses.dataclass(frozen=True)
class BridgeConfig:
    """Bridges between a dense and a sparse model (docs/method.md, "Bridges").

    Attributes:
      dense: The dense model, trained and frozen: a workdir or a released checkpoint.
      sparse: An already trained sparse model, which is frozen too, so that bridges alone are trained; None
        trains one from scratch, coupled to the dense one.
      encoder: "abs_top_k", or "threshold": each channel is kept where it exceeds a learned magnitude.
      fraction: Share of the sparse stream that an "abs_top_k" encoder keeps; None for that of the sparse
        model's own AbsTopK there, or all where it has none.
      top_n: Likeliest tokens that KLs are taken over, renormalised; None for exact KLs.
      ce, kl, nmse_encode, nmse_decode, dense_to_sparse, sparse_to_dense: Coefficients of the loss' terms.
      ridge: Penalty of the closed-form bridges that evaluation compares with, as a share of the mean
        variance of a channel.
      ridge_batches: Training batches that those are fitted on.
      warm_start: Whether bridges that are trained alone start from the closed-form ones.
    """

    dense: str | None = None
    sparse: str | None = None
    encoder: str = "abs_top_k"
    fraction: float | None = None
    top_n: int | None = None
    ce: float = 1.0
    kl: float = 1.0
    nmse_encode: float = 1.0
    nmse_decode: float = 1.0
    dense_to_sparse: float = 1.0
    sparse_to_dense: float = 1.0
    ridge: float = 1e-4
    ridge_batches: int = 32
    warm_start: bool = True

    def __post_init__(self) -> None:
        check_choice("bridge.encoder", self.encoder, ENCODERS)
        if self.fraction is not None:
            check_fraction("bridge.fraction", self.fraction)
        if self.top_n is not None and self.top_n < 2:
            raise ConfigError(f"bridge.top_n is {self.top_n}; a KL needs 2 tokens or more")
        for field in ("ce", "kl", "nmse_encode", "nmse_decode", "dense_to_sparse", "sparse_to_dense"):
            check_not_negative(f"bridge.{field}", getattr(self, field))
        check_positive("bridge.ridge", self.ridge)
        check_positive("bridge.ridge_batches", self.ridge_batches)

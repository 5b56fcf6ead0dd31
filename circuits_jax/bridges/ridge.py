"""Linear bridges fitted in closed form, the baseline that trained ones must beat (docs/method.md, "Bridges").

Letters in shapes: S bridge sites, B batch, T tokens, I inputs, O outputs.
"""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.bridges.model import FIRST_THRESHOLD, Bridge, BridgeParams


class Moments(NamedTuple):
    """Sums over tokens at each site, float64: of x [S, I], y [S, O], x x' [S, I, I], x y' [S, I, O]."""

    count: float
    x: np.ndarray
    y: np.ndarray
    xx: np.ndarray
    xy: np.ndarray


def fit_ridge(
    bridge: Bridge, streams: Iterable[tuple[jax.Array, jax.Array, jax.Array]], penalty: float
) -> BridgeParams:
    """Encoders and decoders of least squared error on the given residuals.

    Args:
      bridge: For its encoder: "threshold" bridges get the threshold that training starts from.
      streams: Of each batch (dense [S, B, T, E], sparse [S, B, T, D], the encoders' target [S, B, T, D]).
      penalty: On squared weights, as a share of the mean variance of an input channel.

    Returns:
      Parameters as `init_bridge` gives them, numpy arrays.
    """
    to_sparse = to_dense = None
    for dense, sparse, target in streams:
        to_sparse = _add(to_sparse, _moments(dense, target))
        to_dense = _add(to_dense, _moments(sparse, dense))
    params = {"encoder": solve_ridge(to_sparse, penalty), "decoder": solve_ridge(to_dense, penalty)}
    if bridge.encoder == "threshold":
        params["encoder"]["log_threshold"] = np.full_like(params["encoder"]["bias"], np.log(FIRST_THRESHOLD))
    return params


def solve_ridge(moments: Moments, penalty: float) -> dict[str, np.ndarray]:
    """{"kernel" [S, I, O], "bias" [S, O]} of the ridge regression of y on x, the bias not penalised."""
    count, x, y, xx, xy = moments
    x, y = x / count, y / count
    within = xx / count - x[:, :, None] * x[:, None, :]
    across = xy / count - x[:, :, None] * y[:, None, :]
    size = x.shape[-1]
    # A channel that is always zero has no variance: the smallest penalty keeps the system regular.
    weight = penalty * np.trace(within, axis1=1, axis2=2) / size + np.finfo(np.float32).tiny
    kernel = np.linalg.solve(within + weight[:, None, None] * np.eye(size), across)
    bias = y - np.einsum("si,sio->so", x, kernel)
    return {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}


@jax.jit
def _sums(x: jax.Array, y: jax.Array) -> tuple[jax.Array, ...]:
    return (
        x.sum(axis=(1, 2)),
        y.sum(axis=(1, 2)),
        jnp.einsum("sbti,sbtj->sij", x, x, precision="highest"),
        jnp.einsum("sbti,sbto->sio", x, y, precision="highest"),
    )


def _moments(x: jax.Array, y: jax.Array) -> Moments:
    sums = (np.asarray(each, np.float64) for each in _sums(x, y))
    return Moments(float(x.shape[1] * x.shape[2]), *sums)


def _add(total: Moments | None, more: Moments) -> Moments:
    return more if total is None else Moments(*(a + b for a, b in zip(total, more, strict=True)))

"""Where a node fires on corpus text: its figures, its histogram, and contexts at fixed quantiles."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from circuits_jax.viewer.circuit_page.pack import pack_scaled

# Shares of all corpus tokens with a higher value; 0 is the very highest.
QUANTILES = (0.0, 0.001, 0.01, 0.1, 0.5)
BINS = 24
# Attention looks back only, so a context shows more of what came before its token than of what came after.
_SHARE_BEFORE = 0.75


def statistics(values: np.ndarray) -> dict[str, float]:
    """Of one node over all corpus tokens read, [windows, n_ctx]; `active` is the share that is not zero."""
    values = values.astype(np.float64)
    figures = {"mean": values.mean(), "std": values.std(), "min": values.min(), "max": values.max()}
    return {name: short(value) for name, value in {**figures, "active": (values != 0).mean()}.items()}


def histogram(values: np.ndarray) -> list[int]:
    """Tokens in each of BINS equal bins from the least to the greatest value, zeros left out."""
    nonzero = values[values != 0]
    if values.min() == values.max():
        return [0] * BINS
    return np.histogram(nonzero, BINS, (float(values.min()), float(values.max())))[0].tolist()


def quantile_examples(values: np.ndarray, contexts: int, size: int, scale: float) -> dict[str, list[Any]]:
    """Contexts at QUANTILES of one node's values, from the top ("most") and from the bottom ("least").

    Args:
      values: float32 [windows, n_ctx].
      contexts: How many for each quantile, of different windows.
      size: Tokens of a context.
      scale: What values are divided by when packed.

    Returns:
      {"most", "least": [[quantile, [[window, start, place of the token, value, packed values], ...]], ...]};
      quantiles at which the node is zero, or past its middle, are left out.
    """
    if values.min() == values.max():  # a constant fires on nothing in particular
        return {"most": [], "least": []}
    order = np.argsort(-values, axis=None, kind="stable")
    return {
        "most": _side(values, order, contexts, size, scale, 1),
        "least": _side(values, order[::-1], contexts, size, scale, -1),
    }


def short(value: float) -> float:
    """Four significant digits; 0 as an integer, which is shorter in JSON."""
    return 0 if value == 0 else float(f"{value:.4g}")


def _side(
    values: np.ndarray, order: np.ndarray, contexts: int, size: int, scale: float, sign: int
) -> list[Any]:
    shown, last = [], -1
    for quantile in QUANTILES:
        rank = int(quantile * order.size)
        places = list(_places(values, order, rank, contexts, sign)) if rank > last else []
        last = rank
        if places:
            shown.append([quantile, [_context(values, place, size, scale) for place in places]])
    return shown


def _places(
    values: np.ndarray, order: np.ndarray, rank: int, count: int, sign: int
) -> Iterator[tuple[int, int]]:
    """(window, position) of tokens from `rank` on, each of another window, while their sign is `sign`."""
    seen: set[int] = set()
    for flat in order[rank : rank + 50 * count].tolist():
        window, place = divmod(flat, values.shape[1])
        if sign * values[window, place] <= 0 or len(seen) == count:
            return
        if window not in seen:
            seen.add(window)
            yield window, place


def _context(values: np.ndarray, place: tuple[int, int], size: int, scale: float) -> list[Any]:
    window, at = place
    length = values.shape[1]
    size = min(size, length)
    start = int(np.clip(at - int(size * _SHARE_BEFORE), 0, length - size))
    span = values[window, start : start + size]
    return [window, start, at - start, short(float(values[window, at])), pack_scaled(span, scale)]

"""Arrays as short text for a page: base64 of their little-endian bytes (read by page/bytes.js)."""

import base64
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

SCALED_MAX = 32767  # int16, of which the page divides


def pack(values: ArrayLike, dtype: str = "<f4") -> str:
    """`values` flattened, as base64 of `dtype` (little-endian)."""
    return base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode()


def pack_scaled(values: np.ndarray, scale: float) -> str:
    """`values`, of magnitude up to `scale`, as base64 of int16: value = scale * integer / SCALED_MAX."""
    unit = np.asarray(values, np.float64) / (scale or 1.0)
    return pack(np.rint(np.clip(unit, -1, 1) * SCALED_MAX), "<i2")


def pack_rows(matrix: np.ndarray) -> dict[str, Any]:
    """A matrix [rows, width] by its nonzeros: how many each row has, their columns and their values."""
    matrix = np.asarray(matrix, np.float32)
    row, column = np.nonzero(matrix)
    return {
        "width": matrix.shape[1],
        "counts": pack(np.bincount(row, minlength=len(matrix)), "<u4"),
        "columns": pack(column, "<u4" if matrix.shape[1] > 65535 else "<u2"),
        "values": pack(matrix[row, column]),
    }

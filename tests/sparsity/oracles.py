"""Slow, obvious numpy versions of what the library does by counting."""

import numpy as np


def largest(x, k):
    """The k entries of largest |x|, ties by flat index: a stable sort."""
    order = np.argsort(-np.abs(np.asarray(x, np.float64)).ravel(), kind="stable")
    mask = np.zeros(order.size, bool)
    mask[order[:k]] = True
    return mask.reshape(np.shape(x))


def largest_along(x, j, axis):
    """The same within every slice along `axis`."""
    return np.apply_along_axis(lambda unit: largest(unit, j), axis, np.asarray(x, np.float64))


def projected(x, k, axis, j):
    """The floor's entries, then the largest of the rest up to k, taken one by one."""
    mask = largest_along(x, j, axis).ravel()
    for index in np.argsort(-np.abs(np.asarray(x, np.float64)).ravel(), kind="stable"):
        if mask.sum() >= k:
            break
        mask[index] = True
    return mask.reshape(np.shape(x))

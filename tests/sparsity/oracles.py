"""Slow, obvious numpy versions of what the library does by counting, and a small parameter tree."""

import numpy as np

# One tensor of every kind and floor, few enough to compile fast.
SHAPES = {
    "bigram": (12, 12),
    "wte": {"embedding": (12, 8)},
    "wpe": {"embedding": (6, 8)},
    "h_0": {
        "attn": {"c_attn": {"kernel": (8, 24), "bias": (24,)}, "sink": (2,)},
        "ln_2": {"scale": (8,)},
        "mlp": {"c_proj": {"kernel": (16, 8)}},
    },
    "lm_head": {"kernel": (8, 12)},
}


def random_tree(rng, scale=1.0, shapes=SHAPES):
    """A parameter tree of normal float32 entries."""
    if isinstance(shapes, tuple):
        return (scale * rng.normal(size=shapes)).astype(np.float32)
    return {name: random_tree(rng, scale, below) for name, below in shapes.items()}


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

"""How what a method finds in a compiled program is compared with what is known of it."""

import numpy as np

from circuits_jax.circuits.rasp.truth import PartSet, Truth
from circuits_jax.storage.tables import Row


def compare(found: PartSet, truth: Truth) -> Row:
    """Precision against the slice, recall against the core, of nodes and of edges."""
    scores: Row = {}
    for what in ("nodes", "edges"):
        kept, core, slice_ = (getattr(parts, what) for parts in (found, truth.core, truth.slice))
        one = what.removesuffix("s")
        scores[f"{one}_precision"] = len(kept & slice_) / max(len(kept), 1)
        scores[f"{one}_recall"] = len(kept & core) / max(len(core), 1)
    return scores


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """How often a part of the core has a higher score than one outside the slice; a tie is half."""
    from scipy.stats import mannwhitneyu  # only here: every command would start later

    return float(mannwhitneyu(inside, outside).statistic / (len(inside) * len(outside)))

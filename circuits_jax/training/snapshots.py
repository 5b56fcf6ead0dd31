"""At which steps a run keeps its parameters for good (`train.snapshots`)."""


def snapshot_steps(count: int, steps: int) -> frozenset[int]:
    """Up to `count` steps from 1 to `steps`, evenly spaced on a logarithmic scale, the last one among them.

    Steps that rounding makes equal are one, so that a short run may keep fewer.
    """
    if count < 2:
        return frozenset([steps] if count else [])
    return frozenset(round(steps ** (place / (count - 1))) for place in range(count))

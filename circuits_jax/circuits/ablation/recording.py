"""Activations of a model on many prompts, some at a time."""

from collections.abc import Iterator, Sequence

import numpy as np

from circuits_jax.model.model import Model


def recorded(
    model: Model, rows: np.ndarray, sites: Sequence[str], together: int
) -> Iterator[tuple[slice, dict[str, np.ndarray]]]:
    """Runs the model on `together` rows at a time, the last of them filled up, so that it is one program.

    Args:
      model: The model.
      rows: Tokens, int [rows, T].
      sites: What is recorded.
      together: Rows of one forward pass.

    Yields:
      (which rows, {site: [those rows, T, width]}).
    """
    for start in range(0, len(rows), together):
        block = np.take(rows, range(start, start + together), axis=0, mode="wrap")
        _, records = model.apply(block, record=tuple(sites), at=np.zeros(together, np.int32))
        part = slice(start, min(start + together, len(rows)))
        yield part, {site: np.asarray(records[site])[: part.stop - start] for site in sites}

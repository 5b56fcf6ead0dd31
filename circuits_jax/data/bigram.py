"""The corpus' bigram statistics, at which the bigram table starts or stays.

V vocabulary, row = current token, column = next token.
"""

import dataclasses
from decimal import Context, Decimal

import numpy as np

_WINDOWS, _ROWS = 4096, 256  # that are counted, and computed, at a time
_DOUBT = 2.0**-48  # relative error that is allowed for in a float64 logarithm
_DIGITS = Context(prec=50)


@dataclasses.dataclass(frozen=True, eq=False)
class BigramCounts:
    """How often which token follows which; pairs that do not occur are left out.

    Attributes:
      sizes: int [V], how many different tokens follow each.
      columns: int [sum of sizes], which: row by row, increasing in each.
      counts: int [sum of sizes], how often, greater than 0.
    """

    sizes: np.ndarray
    columns: np.ndarray
    counts: np.ndarray

    def logits(self, prior: float) -> np.ndarray:
        """Log-probabilities of the next token given the current one, smoothed towards the unigram.

        log((c(a, b) + prior p(b)) / (c(a) + prior)), p(b) = (c(b) + 1) / (N + V): a Dirichlet prior worth
        `prior` tokens for every row.  Each entry is the float32 nearest to the logarithm of that float64
        quotient, so that the table is the same, bit for bit, on every machine.

        Args:
          prior: In tokens, greater than 0; larger fits the training files less.

        Returns:
          float32 [V, V].
        """
        size = len(self.sizes)
        rows = np.repeat(np.arange(size), self.sizes)
        following = np.bincount(self.columns, self.counts, size)
        smoothing = prior * ((following + 1) / (following.sum() + size))
        totals = np.bincount(rows, self.counts, size) + prior
        table = np.empty((size, size), np.float32)
        for first in range(0, size, _ROWS):
            start, end = np.searchsorted(rows, (first, first + _ROWS))
            part = np.zeros(table[first : first + _ROWS].shape)
            part[rows[start:end] - first, self.columns[start:end]] = self.counts[start:end]
            quotient = (part + smoothing) / totals[first : first + _ROWS, None]
            table[first : first + _ROWS] = nearest_log(quotient)
        return table


def count_bigrams(windows: np.ndarray, vocab_size: int) -> BigramCounts:
    """Counts the pairs of neighbours inside windows.

    Args:
      windows: int [N, T] of training tokens, each below `vocab_size`.
      vocab_size: V.
    """
    table = np.zeros(vocab_size * vocab_size, np.int64)
    for part in np.array_split(windows, max(1, len(windows) // _WINDOWS)):
        pairs = part[:, :-1].astype(np.int64) * vocab_size + part[:, 1:]
        table += np.bincount(pairs.ravel(), minlength=len(table))
    found = np.flatnonzero(table)
    rows, columns = np.divmod(found, vocab_size)
    return BigramCounts(np.bincount(rows, minlength=vocab_size), columns, table[found])


def nearest_log(x: np.ndarray) -> np.ndarray:
    """The float32 nearest to the logarithm of each float64 of `x`, all greater than 0.

    Logarithms of different processors and libraries differ in the last bits of a float64, and so, once in
    some hundred million, in the float32 next to it.  Such an entry is computed anew with 50 digits.
    """
    log = np.log(x)
    low, high = (log * factor for factor in (1 - _DOUBT, 1 + _DOUBT))
    nearest = low.astype(np.float32)
    for place in zip(*np.nonzero(nearest != high.astype(np.float32)), strict=True):
        ends = np.sort(np.asarray([low[place], high[place]], np.float32))
        middle = Decimal((float(ends[0]) + float(ends[1])) / 2)
        nearest[place] = ends[int(_DIGITS.ln(Decimal(float(x[place]))) > middle)]
    return nearest

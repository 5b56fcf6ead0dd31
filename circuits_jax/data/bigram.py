"""The corpus' bigram statistics, from which the bigram table may start."""

import numpy as np


def bigram_logits(windows: np.ndarray, vocab_size: int, prior: float) -> np.ndarray:
    """Log-probabilities of the next token given the current one, smoothed towards the unigram.

    log((c(a, b) + prior p(b)) / (c(a) + prior)), p(b) = (c(b) + 1) / (N + V): a Dirichlet prior worth
    `prior` tokens for every row.  Started here, training need not spend its first thousand steps on what
    counting gives, and the sparse weights learn what bigrams cannot say.

    Args:
      windows: int [N, T] of training tokens.
      vocab_size: V.
      prior: In tokens, greater than 0; larger fits the training files less.

    Returns:
      float32 [V, V], row = current token.
    """
    counts = np.zeros(vocab_size * vocab_size, np.int64)
    for part in np.array_split(windows, max(1, len(windows) // 4096)):
        pairs = part[:, :-1].astype(np.int64) * vocab_size + part[:, 1:]
        counts += np.bincount(pairs.ravel(), minlength=len(counts))
    table = counts.reshape(vocab_size, vocab_size).astype(np.float64)
    unigram = (table.sum(axis=0) + 1) / (table.sum() + vocab_size)
    rows = table.sum(axis=1, keepdims=True)
    return np.log((table + prior * unigram) / (rows + prior)).astype(np.float32)

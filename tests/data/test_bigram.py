"""The bigram table's start, against counting by hand."""

import numpy as np

from circuits_jax.data.bigram import bigram_logits

WINDOWS = np.array([[0, 1, 2, 1], [1, 2, 1, 1]], np.int32)


def test_rows_are_smoothed_conditional_probabilities():
    prior, vocab = 2.0, 4
    counts = np.zeros((vocab, vocab))
    for window in WINDOWS:
        for current, following in zip(window[:-1], window[1:], strict=True):
            counts[current, following] += 1
    unigram = (counts.sum(0) + 1) / (counts.sum() + vocab)
    expected = (counts + prior * unigram) / (counts.sum(1, keepdims=True) + prior)
    found = np.exp(bigram_logits(WINDOWS, vocab, prior))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)


def test_a_token_never_seen_falls_back_to_the_unigram():
    found = np.exp(bigram_logits(WINDOWS, 4, 7.0))
    np.testing.assert_allclose(found[3], np.array([1, 5, 3, 1]) / 10, rtol=1e-6)


def test_windows_counted_in_parts_count_as_one():
    windows = np.random.default_rng(0).integers(0, 5, (9001, 4))
    counts = np.zeros((5, 5))
    np.add.at(counts, (windows[:, :-1], windows[:, 1:]), 1)
    unigram = (counts.sum(0) + 1) / (counts.sum() + 5)
    expected = np.log((counts + 3 * unigram) / (counts.sum(1, keepdims=True) + 3))
    np.testing.assert_allclose(bigram_logits(windows, 5, 3.0), expected, rtol=1e-6)

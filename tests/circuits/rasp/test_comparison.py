"""How what is found in compiled programs is compared with what is known."""

import itertools

import numpy as np
import pytest

from circuits_jax.circuits.circuit import Node
from circuits_jax.circuits.rasp import Truth
from circuits_jax.circuits.rasp.comparison import auroc, compare
from circuits_jax.circuits.rasp.truth import PartSet

A, B, C, D = (Node("0.mlp.post_act", index) for index in range(4))


def test_precision_is_against_the_slice_and_recall_against_the_core():
    truth = Truth(
        core=PartSet(frozenset({A, B}), frozenset({(A, B)})),
        slice=PartSet(frozenset({A, B, C}), frozenset({(A, B), (B, C)})),
    )
    found = compare(PartSet(frozenset({A, C, D}), frozenset({(B, C)})), truth)
    assert found == {"node_precision": 2 / 3, "node_recall": 0.5, "edge_precision": 1.0, "edge_recall": 0.0}
    perfect = compare(truth.core, truth)
    assert set(perfect.values()) == {1.0}
    assert set(compare(PartSet(frozenset(), frozenset()), truth).values()) == {0.0}


def test_auroc_counts_the_pairs_that_are_in_order():
    rng = np.random.default_rng(0)
    inside, outside = rng.integers(0, 5, 7).astype(float), rng.integers(0, 5, 9).astype(float)
    pairs = [(a > b) + 0.5 * (a == b) for a, b in itertools.product(inside, outside)]
    assert auroc(inside, outside) == pytest.approx(np.mean(pairs))
    assert auroc(np.ones(3), np.ones(4)) == 0.5

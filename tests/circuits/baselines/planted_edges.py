"""A planted network as a set of edges, small, shared by the tests of this folder."""

import functools

from circuits_jax.circuits.ablation.means import Subject, mean_activations
from circuits_jax.circuits.ablation.pairs import pair_batch
from circuits_jax.circuits.baselines import EdgeNetwork
from circuits_jax.circuits.planted import plant
from tests.one_device import one_device

PAIRS = 32


@functools.cache
def planted(name="quotes"):
    return plant(name, 5, PAIRS, PAIRS, PAIRS)


@functools.cache
def subject(name="quotes"):
    return Subject(planted(name).model, mean_activations(planted(name).model, planted(name).corpus))


@functools.cache
def network(reference, name="quotes"):
    with one_device():
        return EdgeNetwork(subject(name), reference)


def batch(split="train", name="quotes"):
    found = planted(name)
    return pair_batch(getattr(found.splits, split), found.config.n_ctx)

import chex
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from circuits_jax.sparsity.search import Guess, search_cut
from circuits_jax.sparsity.threshold import (
    _counts,
    guessed_mask,
    largest_mask,
    largest_mask_along,
    magnitude_bits,
)
from tests.sparsity import oracles

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=(24, 16)).astype(np.float32)
CASES = {
    "normal": NORMAL,
    "one axis": RNG.normal(size=77).astype(np.float32),
    "three axes": RNG.normal(size=(3, 5, 7)).astype(np.float32),
    "many ties": RNG.integers(-2, 3, size=(24, 16)).astype(np.float32),
    "all equal": np.full((9, 7), -0.5, np.float32),
    "zeros of both signs": np.where(RNG.random((9, 7)) < 0.5, 0.0, -0.0).astype(np.float32),
    "mostly zero": (NORMAL * (RNG.random(NORMAL.shape) < 0.1)).astype(np.float32),
    "heavy tails": (NORMAL**9).astype(np.float32),
    "neighbouring floats": (1 + np.arange(64).reshape(8, 8) % 5 * 2.0**-23).astype(np.float32),
    "subnormal": (RNG.integers(-9, 10, size=(8, 8)) * 1e-45).astype(np.float32),
    "infinite": np.where(RNG.random((8, 8)) < 0.2, -np.inf, 3.0).astype(np.float32),
    "bfloat16": NORMAL.astype(ml_dtypes.bfloat16),
    "bfloat16 ties": RNG.integers(-2, 3, size=(12, 8)).astype(ml_dtypes.bfloat16),
}


@pytest.mark.parametrize("name", CASES)
def test_keeps_exactly_the_largest_for_every_traced_k(name):
    x = CASES[name]
    traced = chex.assert_max_traces(lambda x, k: largest_mask(x, k), n=1)
    mask_of = jax.jit(traced)  # a new function has a cache of its own
    counts = range(1, x.size + 1) if x.size < 100 else (1, 2, x.size // 32, x.size // 2, x.size - 1, x.size)
    for k in counts:
        mask = mask_of(x, jnp.int32(k))
        assert mask.sum() == k
        np.testing.assert_array_equal(mask, oracles.largest(x, k))
    assert mask_of._cache_size() == 1


@pytest.mark.parametrize("at", [1, 12345, 2**23, 2**30 + 7, 2**31 - 3])
@pytest.mark.parametrize("above", [0, 1])
def test_a_step_that_interpolation_cannot_find_is_found_by_halving(at, above):
    count = jax.jit(lambda t: jnp.where(t <= at, 2**24, above))
    bracket = search_cut(
        lambda *at: tuple(map(count, at)), jnp.int32(above + 1), 2**24, jnp.uint32(2**31), None
    )
    assert int(bracket.low) == at
    assert int(bracket.passes) <= 20 + 31


GUESSES = [(0, 0), (0, 1e9), (2**31, 1), (2**32 - 1, 1e-9), (0x3F800000, 0), (0x3F800000, 1e4), (1, 1e30)]


@pytest.mark.parametrize("name", ["normal", "many ties", "mostly zero", "infinite", "bfloat16", "subnormal"])
def test_whatever_the_guess_the_entries_are_the_same(name):
    x = CASES[name]
    first = np.zeros(x.shape, bool)
    first[0] = True
    mask_of = jax.jit(lambda x, k, guess, first: guessed_mask(x, k, guess, first)[0])
    for cut, gap in GUESSES:
        guess = Guess(jnp.uint32(cut), jnp.float32(gap))
        for k in (1, x.size // 3, x.size):
            np.testing.assert_array_equal(mask_of(x, k, guess, None), oracles.largest(x, k))
        k = 3 * first[0].size
        np.testing.assert_array_equal(mask_of(x, k, guess, first), largest_mask(x, k, first))


def test_a_search_that_begins_where_the_last_one_ended_is_short():
    rng = np.random.default_rng(0)
    x, size = rng.normal(size=2**15).astype(np.float32), 2**15
    search = jax.jit(
        lambda x, k, guess: search_cut(
            lambda *at: tuple(jnp.sum(magnitude_bits(x) >= t) for t in at), k, size, jnp.uint32(2**31), guess
        )
    )
    guess, guessed, anew = Guess(jnp.uint32(0), jnp.float32(0)), [], []
    for step in range(40):  # weights move and fewer of them stay
        x += 0.003 * rng.normal(size=size).astype(np.float32)
        k = jnp.int32(size // 4 - 16 * step)
        found = search(x, k, guess)
        anew.append(int(search(x, k, Guess(jnp.uint32(0), jnp.float32(0))).passes))
        guessed.append(int(found.passes))
        guess = Guess(found.low, found.gap)
    assert np.mean(guessed[5:]) < 0.6 * np.mean(anew)
    assert np.mean(guessed[5:]) < 4.5  # one count a pass took 5.0


def test_nan_comes_first():
    x = np.array([1.0, np.inf, np.nan, -2.0], np.float32)
    x[3] = np.uint32(0xFFFFFFFF).view(np.float32)  # the NaN of the largest bit pattern
    for k, expected in ((1, [3]), (2, [2, 3]), (3, [1, 2, 3])):
        assert np.flatnonzero(largest_mask(jnp.asarray(x), k)).tolist() == expected


def test_counts_stay_exact_beyond_float32_integers():
    x = jnp.ones((4097, 4096), jnp.bfloat16)
    mask = largest_mask(x, jnp.int32(x.size - 3))  # odd, and so no float32
    assert np.flatnonzero(~np.asarray(mask)).tolist() == [x.size - 3, x.size - 2, x.size - 1]


@pytest.mark.parametrize("width", [2**15 - 1, 2**15])
def test_two_counts_of_a_row_are_exact_up_to_its_length(width):
    marks = jnp.stack([jnp.ones(width, bool), jnp.arange(width) < 7])
    counts = jax.jit(lambda: _counts(lambda at: marks | (at == 0), jnp.uint32(0), jnp.uint32(1)))()
    assert tuple(map(int, counts)) == (2 * width, width + 7)


def test_entries_named_first_come_before_all_others():
    first = np.zeros(NORMAL.shape, bool)
    first[3] = True
    mask = np.asarray(largest_mask(NORMAL, 20, jnp.asarray(first)))
    assert mask[3].all()
    rest = np.delete(NORMAL, 3, axis=0)
    np.testing.assert_array_equal(np.delete(mask, 3, axis=0), oracles.largest(rest, 4))


def test_under_vmap():
    x = np.stack([CASES["normal"], CASES["many ties"], CASES["mostly zero"]])
    k = np.array([5, 100, 300])
    masks = jax.vmap(largest_mask)(x, k)
    np.testing.assert_array_equal(masks, [oracles.largest(*row) for row in zip(x, k, strict=True)])


@pytest.mark.parametrize("name", ["many ties", "mostly zero", "bfloat16", "three axes"])
@pytest.mark.parametrize("j", [0, 1, 3, 1000])
@pytest.mark.parametrize("axis", [0, 1])
def test_largest_of_every_slice(name, j, axis):
    mask = largest_mask_along(jnp.asarray(CASES[name]), j, axis)
    np.testing.assert_array_equal(mask, oracles.largest_along(CASES[name], j, axis))


def test_other_types_are_refused():
    with pytest.raises(TypeError, match="int32"):
        magnitude_bits(jnp.arange(3))

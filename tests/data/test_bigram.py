"""The table of a corpus' bigrams, against counting by hand; its counts as a file."""

import dataclasses
import decimal
import json

import numpy as np
import pytest

from circuits_jax.data import bigram
from circuits_jax.data.bigram import count_bigrams, nearest_log
from circuits_jax.data.counts_file import Origin, load_counts, save_counts
from circuits_jax.storage.errors import CheckpointError

WINDOWS = np.array([[0, 1, 2, 1], [1, 2, 1, 1]], np.int32)
ORIGIN = Origin("a" * 64, "b" * 16, 300.0)


def quotients(windows, vocab, prior):
    """The smoothed probabilities, float64 [V, V], by the formula as it stands."""
    counts = np.zeros((vocab, vocab))
    np.add.at(counts, (windows[:, :-1], windows[:, 1:]), 1)
    unigram = (counts.sum(0) + 1) / (counts.sum() + vocab)
    return (counts + prior * unigram) / (counts.sum(1, keepdims=True) + prior)


def random_windows(vocab, shape, seed=0):
    """Some tokens much more often than others, and every third never."""
    rng = np.random.default_rng(seed)
    tokens = np.minimum(rng.geometric(0.02, shape), vocab) - 1
    return np.where(tokens % 3 == 2, 0, tokens).astype(np.uint16)


def test_rows_are_smoothed_conditional_probabilities():
    expected = quotients(WINDOWS, 4, 2.0)
    found = np.exp(count_bigrams(WINDOWS, 4).logits(2.0))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)


def test_a_token_never_seen_falls_back_to_the_unigram():
    found = np.exp(count_bigrams(WINDOWS, 4).logits(7.0))
    np.testing.assert_allclose(found[3], np.array([1, 5, 3, 1]) / 10, rtol=1e-6)


def test_windows_counted_in_parts_count_as_one():
    windows = np.random.default_rng(0).integers(0, 5, (9001, 4))
    found = count_bigrams(windows, 5).logits(3.0)
    np.testing.assert_allclose(np.exp(found), quotients(windows, 5, 3.0), rtol=1e-6)


@pytest.mark.parametrize(("vocab", "shape"), [(1, (3, 4)), (7, (1, 2)), (301, (500, 17)), (257, (0, 9))])
def test_stored_counts_give_the_table_bit_for_bit(tmp_path, vocab, shape):
    windows = random_windows(vocab, shape)
    counts = count_bigrams(windows, vocab)
    save_counts(tmp_path / "counts", counts, ORIGIN)
    stored = load_counts(tmp_path / "counts", ORIGIN, vocab).logits(300.0)
    assert stored.dtype == np.float32
    assert stored.tobytes() == counts.logits(300.0).tobytes()
    assert stored.tobytes() == nearest_log(quotients(windows, vocab, 300.0)).tobytes()


def test_a_count_larger_than_small_integers_is_kept(tmp_path):
    windows = np.zeros((70000, 2), np.int32)
    save_counts(tmp_path / "counts", count_bigrams(windows, 3), ORIGIN)
    assert load_counts(tmp_path / "counts", ORIGIN, 3).counts.tolist() == [70000]


def test_the_file_is_small(tmp_path):
    """A quarter of the bytes that two of a column and two of a count would take, or less."""
    counts = count_bigrams(random_windows(512, (4000, 65)), 512)
    save_counts(tmp_path / "counts", counts, ORIGIN)
    assert (tmp_path / "counts").stat().st_size < 4 * len(counts.counts) < 512 * 512 * 4 / 10


def test_logarithms_do_not_depend_on_whose_they_are(monkeypatch):
    """However a library rounds, the float32 is the nearest: checked with 60 digits where it is close."""
    rng = np.random.default_rng(0)
    ties = (rng.uniform(-9, -0.1, 40).astype(np.float32)).astype(np.float64)
    ties += np.spacing(ties.astype(np.float32)) / 2  # logarithms right between two of float32
    x = np.concatenate([np.exp(ties), rng.uniform(1e-7, 1, 2000), [1.0, 2.5]])
    expected = []
    with decimal.localcontext(prec=60):
        for value in x:
            log = decimal.Decimal(float(value)).ln()
            near = np.float32(float(log))
            choices = (near, np.nextafter(near, np.float32(9)), np.nextafter(near, np.float32(-99)))
            expected.append(min(choices, key=lambda each: abs(decimal.Decimal(float(each)) - log)))
    log = np.log
    for ulps in (-4, 0, 4):
        monkeypatch.setattr(bigram.np, "log", lambda x, ulps=ulps: log(x) * (1 + ulps * 2.0**-52))
        assert nearest_log(x).tobytes() == np.array(expected, np.float32).tobytes()


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ({"tokenizer": "c" * 64}, r"of another tokenizer \(a{12}\) than the run's \(c{12}\)"),
        ({"corpus": "d" * 16}, r"of another corpus \(b{12}\) than the run's \(d{12}\)"),
        ({"prior": 20.0}, r"of another prior \(300.0\) than the run's \(20.0\)"),
    ],
)
def test_counts_of_something_else_are_refused(tmp_path, origin, words):
    save_counts(tmp_path / "counts", count_bigrams(WINDOWS, 4), ORIGIN)
    with pytest.raises(CheckpointError, match=f"{words}; put back the run's own file, or move it away"):
        load_counts(tmp_path / "counts", dataclasses.replace(ORIGIN, **origin), 4)


@pytest.mark.parametrize("spoil", ["cut", "flip", "empty", "text", "pickle", "later", "lists"])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, spoil):
    path = tmp_path / "counts"
    save_counts(path, count_bigrams(random_windows(64, (90, 9)), 64), ORIGIN)
    content = path.read_bytes()
    half = len(content) // 2
    about = {"format": "circuits_jax.bigram_counts", "version": 1, **dataclasses.asdict(ORIGIN)}
    if spoil == "pickle":
        np.savez(path.open("wb"), about=np.array(object()))
    elif spoil in ("later", "lists"):
        about |= {"version": 2}
        about = json.dumps(about if spoil == "later" else [about])
        np.savez(path.open("wb"), about=np.array(about), sizes=[1], columns=[0], counts=[1])
    else:
        flipped = content[:half] + bytes([content[half] ^ 64]) + content[half + 1 :]
        path.write_bytes({"cut": content[:half], "flip": flipped, "empty": b"", "text": b"hello"}[spoil])
    with pytest.raises(CheckpointError, match="counts .*(holds no bigram counts|is empty)") as refused:
        load_counts(path, ORIGIN, 64)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        {"sizes": np.array([9, 0, 0, 0])},
        {"columns": np.array([1, 2, 1, 9, 1])},
        {"columns": np.array([1, 2, 1, 1, 1])},
        {"counts": np.array([0, 1, 1, 1, 1])},
        {"sizes": np.array([[1, 2, 1, 0]])},
    ],
)
def test_counts_that_do_not_fit_are_refused(tmp_path, change):
    counts = count_bigrams(np.array([[0, 1, 1, 2], [1, 2, 1, 0]]), 4)
    whole = {"sizes": [1, 3, 1, 0], "columns": [1, 0, 1, 2, 1], "counts": [1, 1, 1, 2, 1]}
    assert {name: array.tolist() for name, array in vars(counts).items()} == whole
    save_counts(tmp_path / "counts", dataclasses.replace(counts, **change), ORIGIN)
    with pytest.raises(CheckpointError, match="do not fit a vocabulary of 4"):
        load_counts(tmp_path / "counts", ORIGIN, 4)
    save_counts(tmp_path / "counts", counts, ORIGIN)
    with pytest.raises(CheckpointError, match="do not fit a vocabulary of 5"):
        load_counts(tmp_path / "counts", ORIGIN, 5)

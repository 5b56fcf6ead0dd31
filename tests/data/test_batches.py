"""Batches depend on the step alone; a stopped iterator goes on."""

import numpy as np
import pytest

from circuits_jax.data.batches import make_batches, make_iterator
from circuits_jax.data.windows import Windows
from circuits_jax.storage.errors import ConfigError


def numbered(count: int, width: int = 5) -> Windows:
    """Windows of which each holds its own number only."""
    return Windows(np.repeat(np.arange(count, dtype=np.uint16)[:, None], width, axis=1), {})


def test_an_epoch_holds_every_window_once_and_the_next_another_order() -> None:
    batches = make_batches(numbered(24), 4, seed=3)
    epochs = [np.concatenate([batches[6 * epoch + step] for step in range(6)])[:, 0] for epoch in (0, 1)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(24))
        assert list(epoch) != list(range(24))
    assert list(epochs[0]) != list(epochs[1])


def test_batches_span_epochs_and_may_exceed_them() -> None:
    batches = make_batches(numbered(10), 4, seed=0)
    rows = np.concatenate([batches[step] for step in range(5)])[:, 0]
    assert np.bincount(rows).tolist() == [2] * 10
    assert make_batches(numbered(3), 7, seed=0)[10**6].shape == (7, 5)


def test_the_seed_decides() -> None:
    first, same, other = (
        np.stack([make_batches(numbered(50), 5, seed)[step] for step in range(10)]) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, same) and not np.array_equal(first, other)


@pytest.mark.parametrize("processes", [2, 4, 8])
def test_the_batch_at_a_step_does_not_depend_on_the_processes(processes: int) -> None:
    windows = numbered(37)
    whole = make_batches(windows, 8, seed=5)
    shares = np.split(np.arange(8), processes)
    parts = [make_batches(windows, 8, 5, share) for share in shares]
    for step in (0, 1, 4, 5, 123):
        assert np.array_equal(np.concatenate([part[step] for part in parts]), whole[step])
    scattered = make_batches(windows, 8, 5, [1, 4, 7])
    assert np.array_equal(scattered[9], whole[9][[1, 4, 7]])


@pytest.mark.parametrize("start", [0, 1, 7, 20])
def test_an_iterator_goes_on_with_exactly_the_batch_asked_for(start: int) -> None:
    batches = make_batches(numbered(23), 4, seed=9)
    expected = [batches[start + step] for step in range(9)]
    iterator = make_iterator(make_batches(numbered(23), 4, seed=9), start)
    assert np.array_equal(np.stack([next(iterator) for _ in range(9)]), np.stack(expected))


def test_worker_processes_read_the_same_batches_in_the_same_order() -> None:
    batches = make_batches(numbered(23), 4, seed=9)
    iterator = make_iterator(batches, 5, workers=2)
    assert np.array_equal(
        np.stack([next(iterator) for _ in range(9)]), np.stack([batches[5 + step] for step in range(9)])
    )


def test_a_seed_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="seed"):
        make_batches(numbered(9), 6, -1)


def test_batches_are_int32_whatever_windows_are_kept_in() -> None:
    for kind in (np.uint16, np.int32):
        windows = Windows(np.full((4, 3), 65535, kind), {})
        batch = make_batches(windows, 2, 0)[0]
        assert batch.dtype == np.int32 and (batch == 65535).all()


def test_a_batch_may_be_a_single_window() -> None:
    batches = make_batches(numbered(7), 1, seed=2)
    iterator = make_iterator(batches, 3)
    assert [int(next(iterator)[0, 0]) for _ in range(4)] == [int(batches[step][0, 0]) for step in range(3, 7)]

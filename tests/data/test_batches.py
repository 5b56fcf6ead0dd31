"""Windows hold the documents in order; batches depend on the step alone; a stopped iterator goes on."""

from pathlib import Path

import numpy as np
import pytest

from circuits_jax.data.batches import make_batches, make_iterator
from circuits_jax.data.windows import (
    Windows,
    check_windows,
    load_windows,
    mix,
    pack,
    save_windows,
    windows_name,
)
from circuits_jax.storage.errors import ConfigError

EOT = 99


def numbered(count: int, width: int = 5) -> Windows:
    """Windows of which each holds its own number only."""
    return Windows(np.repeat(np.arange(count, dtype=np.int32)[:, None], width, axis=1), {})


def test_pack_joins_documents_with_an_end_of_text() -> None:
    windows = pack([[1, 2, 3], [], [4], [5, 6, 7, 8]], EOT, n_ctx=3)
    assert windows.dtype == np.int32
    assert windows.tolist() == [[1, 2, 3, EOT], [4, EOT, 5, 6]]


def test_packing_nothing_is_refused() -> None:
    windows = pack([[1, 2]], EOT, n_ctx=3)
    assert windows.shape == (0, 4)
    with pytest.raises(ConfigError, match="validation split holds 3 tokens.*n_ctx.* 4;"):
        check_windows(windows, "validation", 3, 3)
    assert pack([], EOT, n_ctx=3).shape == (0, 4)


@pytest.mark.parametrize(("share", "generated"), [(0.2, 50), (0.2, 7), (0.45, 100), (0.0, 1)])
def test_mix_meets_the_share(share: float, generated: int) -> None:
    real, extra = numbered(100).tokens, 1000 + numbered(generated).tokens
    mixed = mix(real, extra, share)
    assert np.array_equal(mixed[:100], real)
    added = mixed[100:, 0]
    assert abs(len(added) / len(mixed) - share) < 0.5 / 100
    times = np.unique(added, return_counts=True)[1]
    assert not len(times) or times.max() - times.min() <= 1


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


def test_saved_windows_are_mapped_and_damage_is_noticed(tmp_path: Path) -> None:
    path, windows = tmp_path / "train-0", Windows(numbered(300).tokens, {"tokens": 7})
    assert load_windows(path) is None
    save_windows(path, windows)
    loaded = load_windows(path)
    assert isinstance(loaded.tokens, np.memmap) and np.array_equal(loaded.tokens, windows.tokens)
    assert (loaded.counts, loaded.n_ctx) == ({"tokens": 7}, 4)
    assert type(make_batches(loaded, 2, 0)[0]) is np.ndarray
    assert sorted(file.name for file in tmp_path.iterdir()) == ["train-0.json", "train-0.npy"]
    data = path.with_suffix(".npy").read_bytes()
    for size in (0, 10, 200, len(data) - 1):
        path.with_suffix(".npy").write_bytes(data[:size])
        assert load_windows(path) is None
    save_windows(path, windows)
    for sidecar in (b"", b"{", b"[]", b'{"shape": [1, 5], "counts": {}}'):
        path.with_suffix(".json").write_bytes(sidecar)
        assert load_windows(path) is None


def test_names_differ_with_the_identity() -> None:
    assert windows_name("train", {"a": 1, "b": 2}) == windows_name("train", {"b": 2, "a": 1})
    names = {windows_name("train", {"a": 1}), windows_name("train", {"a": 2}), windows_name("test", {"a": 1})}
    assert len(names) == 3

"""Windows are what joining all documents and cutting the row would give, however they come."""

from pathlib import Path

import numpy as np
import pytest

from circuits_jax.data.windows import WindowsWriter, check_windows, map_tokens, token_type, write_windows
from circuits_jax.storage.errors import ConfigError

EOT = 99


def written(path: Path, groups: list[list[list[int]]], n_ctx: int, vocab_size: int = 100) -> WindowsWriter:
    with write_windows(path, EOT, n_ctx, vocab_size) as writer:
        for group in groups:
            writer.add(group)
    return writer


def test_documents_are_joined_with_an_end_of_text(tmp_path: Path) -> None:
    writer = written(tmp_path / "a.npy", [[[1, 2, 3], []], [[4], [5, 6, 7, 8]]], n_ctx=3)
    assert map_tokens(tmp_path / "a.npy").tolist() == [[1, 2, 3, EOT], [4, EOT, 5, 6]]
    assert (writer.count, writer.tokens) == (2, 11)


@pytest.mark.parametrize("vocab_size", [2**16, 2**16 + 1])
def test_any_groups_give_what_one_row_would(tmp_path: Path, vocab_size: int) -> None:
    rng = np.random.RandomState(vocab_size)
    documents = [rng.randint(0, vocab_size, size).tolist() for size in rng.randint(0, 40, 200)]
    row = [token for document in documents if document for token in (*document, EOT)]
    for n_ctx in (1, 6, 50):
        cuts = np.sort(rng.randint(0, len(documents), 5))
        groups = [list(part) for part in np.split(np.array(documents, object), cuts)]
        path = tmp_path / f"{n_ctx}.npy"
        writer = written(path, groups, n_ctx, vocab_size)
        count = len(row) // (n_ctx + 1)
        expected = np.array(row[: count * (n_ctx + 1)]).reshape(count, n_ctx + 1)
        found = map_tokens(path)
        assert np.array_equal(found, expected) and found.dtype == token_type(vocab_size)
        assert isinstance(found, np.memmap) and writer.tokens == len(row)


def test_two_bytes_a_token_where_they_are_enough() -> None:
    assert token_type(65536) == np.uint16 and token_type(65537) == np.int32


def test_too_few_tokens_are_refused(tmp_path: Path) -> None:
    writer = written(tmp_path / "a.npy", [[[1, 2]]], n_ctx=3)
    assert map_tokens(tmp_path / "a.npy").shape == (0, 4)
    with pytest.raises(ConfigError, match="validation split holds 3 tokens.*n_ctx.* 4;"):
        check_windows(writer.count, "validation", 3, writer.tokens)


@pytest.mark.parametrize(("share", "generated"), [(0.2, 50), (0.2, 7), (0.45, 100), (0.0, 1)])
def test_a_share_of_generated_windows_is_met(tmp_path: Path, share: float, generated: int) -> None:
    real = np.repeat(np.arange(100)[:, None], 5, axis=1)
    extra = np.repeat(1000 + np.arange(generated)[:, None], 5, axis=1)
    with write_windows(tmp_path / "a.npy", EOT, 4, 2000) as writer:
        writer.copy(real)
        writer.add([[7]])  # part of a window, which is left out
        added = writer.mix(extra, share)
    mixed = map_tokens(tmp_path / "a.npy")
    assert np.array_equal(mixed[:100], real) and len(mixed) == 100 + added
    added = mixed[100:, 0]
    assert abs(len(added) / len(mixed) - share) < 0.5 / 100
    times = np.unique(added, return_counts=True)[1]
    assert not len(times) or times.max() - times.min() <= 1


def test_what_fails_halfway_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), write_windows(tmp_path / "a.npy", EOT, 3, 100) as writer:
        writer.add([[1, 2, 3, 4, 5]])
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_cut_file_is_noticed(tmp_path: Path) -> None:
    written(tmp_path / "a.npy", [[list(range(60))]], n_ctx=3)
    data = (tmp_path / "a.npy").read_bytes()
    for size in (0, 10, 100, len(data) - 1):
        (tmp_path / "a.npy").write_bytes(data[:size])
        with pytest.raises((OSError, EOFError, ValueError)):
            map_tokens(tmp_path / "a.npy")

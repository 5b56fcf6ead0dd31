"""Token lists -> windows, packed once -> batches that depend on the step alone.

N windows, B rows of the global batch, T = n_ctx + 1 tokens of a window (inputs and targets overlap by n_ctx).
"""

import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
import numpy as np
from absl import flags

from circuits_jax.errors import ConfigError, TrainingError
from circuits_jax.files import write_aside


@dataclasses.dataclass(frozen=True)
class Windows:
    """One split, cut into windows.

    Attributes:
      tokens: int32 [N, T], usually mapped from a file.
      counts: What the windows were made of: `files`, `bytes` and `tokens` of code, and how many windows of
        generated programs were mixed in: `generated` in all, `generated_distinct` different ones.
    """

    tokens: np.ndarray
    counts: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def n_ctx(self) -> int:
        """Tokens the model reads of a window."""
        return self.tokens.shape[1] - 1


def pack(documents: Iterable[Sequence[int]], eot: int, n_ctx: int) -> np.ndarray:
    """Joins documents, an `eot` after each, and cuts the row into windows.

    Empty documents are left out; so is what remains at the end of the row.

    Returns:
      int32 [N, n_ctx + 1], in the order of `documents`; N may be 0.
    """
    parts = [
        np.append(np.asarray(document, np.int32), np.int32(eot)) for document in documents if len(document)
    ]
    row = np.concatenate(parts) if parts else np.zeros(0, np.int32)
    count = len(row) // (n_ctx + 1)
    return row[: count * (n_ctx + 1)].reshape(count, n_ctx + 1)


def mix(windows: np.ndarray, generated: np.ndarray, share: float) -> np.ndarray:
    """Adds generated windows, as many as make up `share` of the result; too few are repeated in turn.

    Args:
      windows: int32 [N, T].
      generated: int32 [M, T], M > 0.
      share: Of the result's rows, in [0, 1), met to the nearest row.

    Returns:
      int32 [N + round(N share / (1 - share)), T], all of `windows` first.
    """
    count = round(len(windows) * share / (1 - share))
    return np.concatenate([windows, generated[np.arange(count) % len(generated)]])


def check_windows(windows: np.ndarray, split: str, n_ctx: int, tokens: int) -> None:
    """Raises ConfigError if `split`, of `tokens` tokens, holds not a single window."""
    if not len(windows):
        raise ConfigError(
            f"the {split} split holds {tokens} tokens, fewer than one window of model.n_ctx + 1 = "
            f"{n_ctx + 1}; lower model.n_ctx or add files to data.roots"
        )


def save_windows(path: Path, windows: Windows) -> None:
    """Writes `path`.npy and then `path`.json, which says that the former is complete."""
    tokens = np.ascontiguousarray(windows.tokens, np.int32)
    with write_aside(path.with_suffix(".npy")) as file:
        np.save(file, tokens)
    sidecar = {"shape": tokens.shape, "counts": dict(windows.counts)}
    with write_aside(path.with_suffix(".json")) as file:
        file.write(json.dumps(sidecar).encode())


def load_windows(path: Path) -> Windows | None:
    """Maps what `save_windows` wrote, or None if it is missing or damaged and so must be made again."""
    try:
        sidecar = json.loads(path.with_suffix(".json").read_bytes())
        tokens = np.load(path.with_suffix(".npy"), mmap_mode="r")
        counts, shape = sidecar["counts"], tuple(sidecar["shape"])
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None
    return Windows(tokens, counts) if tokens.shape == shape else None


def windows_name(split: str, identity: Any) -> str:
    """A file name that differs where `identity` (JSON values) does, so that no stale file is ever reused."""
    return f"{split}-{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]}"


def make_batches(
    windows: Windows, batch_size: int, seed: int, rows: Sequence[int] | np.ndarray | None = None
) -> grain.MapDataset:
    """An endless, randomly accessible data set: element s holds this process' rows of the batch of step s.

    The windows are shuffled by `seed`, anew each epoch; a batch may span two epochs.

    Args:
      windows: N windows.
      batch_size: Rows of the global batch.
      seed: In [0, 2**32).
      rows: Numbers of the rows that this process reads, [R]; None reads all.

    Returns:
      A data set of int32 [R, T].

    Raises:
      ConfigError: for a seed out of range.
    """
    if not 0 <= seed < 2**32:
        raise ConfigError(f"the seed of the batches is {seed}; it must lie in [0, 2**32)")
    mine = slice(None) if rows is None else np.asarray(rows)

    def gather(indices: np.ndarray) -> np.ndarray:
        return np.asarray(windows.tokens[indices[mine]])

    return grain.MapDataset.range(len(windows)).shuffle(seed=seed).repeat().batch(batch_size).map(gather)


def make_iterator(batches: grain.MapDataset, start: int = 0, workers: int = 0) -> Iterator[np.ndarray]:
    """Iterates from batch `start` on, reading ahead; to be closed when no more of them are wanted.

    A batch depends on its number alone, so that the number is all there is to a position in the data:
    whatever read the batches before, the same ones follow.

    Args:
      batches: What `make_batches` gave.
      start: Number of the first batch.
      workers: Processes that read; 0 reads in a thread of this one.

    Raises:
      TrainingError: if one of the processes that read is lost.
    """
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    rest = batches.slice(slice(start, None)).to_iter_dataset(options)
    if workers:
        if not flags.FLAGS.is_parsed():  # grain asks for a flag, also where nobody reads flags
            flags.FLAGS.mark_as_parsed()
        settings = grain.multiprocessing.MultiprocessingOptions(num_workers=workers)
        rest = rest.mp_prefetch(settings, worker_init_fn=_set_up_worker)
    with contextlib.closing(iter(rest)) as iterator:
        while True:
            try:
                batch = next(iterator)
            except RuntimeError as error:
                raise TrainingError(
                    f"a process that reads batches is lost ({error}); checkpoints are intact: give the same "
                    "command again, perhaps with fewer mesh.workers"
                ) from error
            yield batch


def _set_up_worker(index: int, count: int) -> None:
    """Leaves it to the process that trains, and only to it, to end a process that reads for it.

    A SIGTERM for all of a run's processes, as schedulers send it, must not stop the batches of the steps that
    are left until the run has saved its state; a run that is killed must leave no readers behind.
    """
    del index, count
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)

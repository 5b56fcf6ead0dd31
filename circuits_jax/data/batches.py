"""Windows as batches that depend on the step alone.

N windows, B rows of the global batch, T = n_ctx + 1 tokens of a window.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence

import grain
import numpy as np
from absl import flags

from circuits_jax.data.windows import Windows
from circuits_jax.storage.errors import ConfigError, TrainingError
from circuits_jax.storage.stopping import SIGNALS

_ENDLESS = 2**48  # windows
# What grain asks of absl's flags where it starts processes, also where nobody reads flags.
_GRAIN_FLAG = "grain_enable_multiprocess_worker_profiling"


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
        return windows.rows(indices[mine])

    shuffled = grain.MapDataset.range(len(windows)).shuffle(seed=seed)
    # Endless to grain is the largest length that Python has; batches of one would be more.
    return shuffled.repeat(_ENDLESS // len(windows)).batch(batch_size).map(gather)


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
        if _GRAIN_FLAG in flags.FLAGS:
            flags.FLAGS[_GRAIN_FLAG].present = True
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

    A signal for all of a run's processes, as terminals and schedulers send it, must not stop the batches of
    the steps that are left until the run has saved its state; a run that is killed must leave no readers
    behind.
    """
    del index, count
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)

"""Snapshots of a run in training: `<workdir>/snapshots/STEP`, folders in the sparse format.

They are kept for good, so that one can watch later how circuits form.  Each is whole by itself, with its
tokenizer and, where the bigram table is counted, the counts: `cj.load` opens it like a published model.
"""

import dataclasses
from pathlib import Path

from circuits_jax.config import Config
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.model.transformer import Params
from circuits_jax.released.sparse_format import save_sparse
from circuits_jax.storage import filenames
from circuits_jax.storage.errors import TrainingError
from circuits_jax.training.checkpoints import gathered
from circuits_jax.training.multihost.processes import is_primary


@dataclasses.dataclass(frozen=True)
class Snapshots:
    """Those of one run.

    Attributes:
      config: Of the run.
      workdir: Its folder, local or in a bucket; with the counts of a bigram table that is not trained.
      tokenizer: The run's.
    """

    config: Config
    workdir: Path
    tokenizer: Tokenizer

    def keep(self, step: int, params: Params) -> None:
        """Writes the parameters of a step; one that was killed after it writes the same once more.

        Called on every process; process 0 writes what all have gathered.

        Raises:
          TrainingError: if it cannot be written.
        """
        params = gathered(params)
        if not is_primary():
            return
        folder = self.workdir / filenames.SNAPSHOTS / str(step)
        counted = self.config.model.bigram == "counts"
        counts = self.workdir / filenames.BIGRAM_COUNTS if counted else None
        try:
            save_sparse(params, self.config.model, folder, self.tokenizer, counts)
        except OSError as error:
            raise TrainingError(
                f"the snapshot {folder} cannot be written: {error.strerror or error}; checkpoints are "
                "intact: make room, or make the folder writable, and give the same command again"
            ) from error

"""Runs of a list, each in a folder of its own: what `recipes` and `frontier` have in common."""

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from circuits_jax.config import Config
from circuits_jax.runs.run import Run
from circuits_jax.storage import filenames
from circuits_jax.storage.errors import ConfigError, TrainingError
from circuits_jax.training.metrics import read_metrics

CORPORA = "corpora"  # of a workdir of many runs: the corpora that they share


@dataclasses.dataclass(frozen=True)
class ListedRun:
    """One run of a list.

    Attributes:
      name: Its name in the list, which runs of other seeds share.
      seed: Of training.
      config: The whole configuration.
      folder: Its workdir.
    """

    name: str
    seed: int
    config: Config
    folder: Path


@dataclasses.dataclass(frozen=True)
class TrainingFigures:
    """How a finished training went.

    Attributes:
      loss: The last validation loss, in nats a token.
      bits_per_byte: The same in bits a byte of text; NaN where the corpus does not say.
      minutes: Of training, at the median pace.
    """

    loss: float
    bits_per_byte: float
    minutes: float


def refuse_twins(runs: Sequence[ListedRun], where: str) -> None:
    """Raises ConfigError if two runs of a list are the same, or would lie in one folder.

    Args:
      runs: The list.
      where: It was read from.
    """
    for place, run in enumerate(runs):
        for other in runs[:place]:
            if other.config == run.config or other.folder == run.folder:
                raise ConfigError(
                    f"{where}: {run.name!r} with seed {run.seed} is the same as {other.name!r} with seed "
                    f"{other.seed}; leave one of them out, or give it another name"
                )


def folder_name(name: str) -> str:
    """A folder's name, on every disk, for what people call `name`."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-") or "run"


def training_figures(run: Run) -> TrainingFigures:
    """Read off the run's own log.

    Raises:
      TrainingError: if its last row is lost.
    """
    metrics = read_metrics(run.folder)
    if not metrics or not {"validation_loss", "tokens_per_second"} <= metrics[-1].keys():
        raise TrainingError(
            f"{run.folder / filenames.METRICS} has lost its last row, and with it the validation loss; move "
            "the folder away to train the run anew"
        )
    pace = median(row["tokens_per_second"] for row in metrics if "tokens_per_second" in row)
    return TrainingFigures(
        metrics[-1]["validation_loss"],
        metrics[-1].get("validation_bits_per_byte", math.nan),
        tokens_of(run.whole_config) / pace / 60,
    )


def tokens_of(config: Config) -> int:
    """Training tokens."""
    return config.train.steps * config.train.batch_size * config.model.n_ctx

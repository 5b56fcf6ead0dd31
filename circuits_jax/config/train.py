"""Length and rhythm of a run: section `train`."""

import dataclasses

from circuits_jax.config.checks import (
    check_not_negative,
    check_positive,
    check_seed,
)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Length and rhythm of a run, all in steps.

    Attributes:
      steps: Optimizer steps.
      batch_size: Windows of n_ctx + 1 tokens a step, over all devices.
      seed: Seed of the initial parameters.
      bigram_prior: Strength, in tokens, of the unigram prior of a bigram table that starts from the
        corpus' counts, or stays at them (model.bigram "counts", which needs it); None starts a learned one
        at zeros, as the paper does.
      log_every: Steps between rows of metrics.jsonl.
      eval_every: Steps between validation losses.
      eval_batches: Validation batches read each time.
      checkpoint_every: Steps between checkpoints.
      keep_checkpoints: Newest checkpoints kept.
      keep_best: Checkpoints of lowest validation loss kept beside them.
      snapshots: Steps, log-spaced from the first to the last, whose parameters are kept for good in the
        sparse format, a folder each in `<workdir>/snapshots`; 0 keeps none.
      start_from: A workdir, a folder in the sparse format or a released checkpoint, whose parameters the
        run starts from with a fresh optimizer and fresh schedules; None starts from random ones.
    """

    steps: int = 2000
    batch_size: int = 16
    seed: int = 0
    bigram_prior: float | None = None
    log_every: int = 10
    eval_every: int = 250
    eval_batches: int = 8
    checkpoint_every: int = 250
    keep_checkpoints: int = 2
    keep_best: int = 0
    snapshots: int = 0
    start_from: str | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in ("seed", "keep_best", "snapshots", "start_from") and value is not None:
                check_positive(f"train.{field.name}", value)
        check_seed("train.seed", self.seed)
        check_not_negative("train.keep_best", self.keep_best)
        check_not_negative("train.snapshots", self.snapshots)

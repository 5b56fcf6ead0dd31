"""Parameters that a run does not train: computed from its corpus, and no part of its checkpoints.

Today that is the bigram table of `model.bigram` "counts" (docs/method.md, "Model").
"""

from collections.abc import Callable
from pathlib import Path

from circuits_jax.config import Config
from circuits_jax.data.bigram import BigramCounts, count_bigrams
from circuits_jax.data.corpus import Corpus
from circuits_jax.data.counts_file import Origin, load_counts, save_counts
from circuits_jax.model.parameters import BIGRAM, build_tree, frozen_shapes
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.model.transformer import Params
from circuits_jax.storage import filenames, notices
from circuits_jax.storage.errors import CheckpointError, UserError
from circuits_jax.storage.paths import exists
from circuits_jax.training.multihost.processes import is_primary


def keep_frozen(config: Config, workdir: Path, corpus: Corpus) -> Params:
    """The values of these parameters, for a run that is about to train, a tree of float32 arrays.

    What they follow from is written into the workdir, by process 0, unless it is there.

    Raises:
      CheckpointError: if a file that is there is damaged, or of another tokenizer, corpus or prior.
      UserError: if it cannot be written.
    """
    if not frozen_shapes(config.model):
        return {}
    path, origin = _place(workdir), _origin(config, corpus.tokenizer)
    if exists(path):
        return _table(load_counts(path, origin, config.model.vocab_size), origin)
    counts = count_bigrams(corpus.train.tokens, config.model.vocab_size)
    if is_primary():
        try:
            save_counts(path, counts, origin)
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror or error}; make room") from error
    return _table(counts, origin)


def read_frozen(config: Config, workdir: Path, tokenizer: Tokenizer, corpus: Callable[[], Corpus]) -> Params:
    """The values of these parameters of the run in `workdir`, which is left as it is.

    Args:
      config: Of the run, with the hash of its corpus.
      workdir: Its folder.
      tokenizer: The run's.
      corpus: Gives the run's corpus; called only where the file is gone, and the values are the same then.

    Raises:
      CheckpointError: as `keep_frozen` does, or if file and corpus are gone.
    """
    if not frozen_shapes(config.model):
        return {}
    path, origin = _place(workdir), _origin(config, tokenizer)
    if exists(path):
        return _table(load_counts(path, origin, config.model.vocab_size), origin)
    try:
        counts = count_bigrams(corpus().train.tokens, config.model.vocab_size)
    except UserError as error:
        raise CheckpointError(
            f"{path}, the counts of the run's bigram table, is gone, and it cannot be counted anew: {error}"
        ) from error
    notices.at_the_end(f"{path} is gone; the run's corpus was counted anew")
    return _table(counts, origin)


def _place(workdir: Path) -> Path:
    return workdir / filenames.BIGRAM_COUNTS


def _table(counts: BigramCounts, origin: Origin) -> Params:
    return build_tree([(BIGRAM, counts.logits(origin.prior))])


def _origin(config: Config, tokenizer: Tokenizer) -> Origin:
    prior = config.train.bigram_prior
    if prior is None:  # Config sees to it
        raise ValueError("a bigram table of counts without a prior")
    return Origin(tokenizer.hash, str(config.data.hash), prior)

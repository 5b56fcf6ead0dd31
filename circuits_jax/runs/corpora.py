"""The corpus of a run: prepared once, and the windows of it that means and texts are taken from."""

from pathlib import Path

import numpy as np

from circuits_jax.config import Config, PruneConfig
from circuits_jax.data import sources
from circuits_jax.data.corpus import Corpus, prepare, read_texts
from circuits_jax.data.local_copy import keep_tokenizer, local_folder
from circuits_jax.data.programs.generator import build_generated, corpus_words
from circuits_jax.storage.errors import UserError


def prepare_corpus(config: Config, workdir: Path) -> Corpus:
    """The corpus of a run, with generated programs mixed in at the configured share.

    Raises:
      UserError: for a corpus that cannot be used, or where it cannot be written.
    """
    folder = local_folder(workdir)
    try:
        corpus = _corpus(config, folder)
        keep_tokenizer(folder, workdir)
    except (OSError, RuntimeError) as error:
        # array_record tells of a full disk by a RuntimeError; any other is a defect.
        if isinstance(error, RuntimeError) and "write() failed" not in str(error):
            raise
        raise UserError(
            f"the corpus cannot be written to {folder} ({error}); make room, or make the folder "
            "writable, and give the same command again"
        ) from error
    return corpus


def reference_windows(corpus: Corpus, config: Config, prune: PruneConfig) -> np.ndarray:
    """Training windows that mean activations are taken over, int32 [mean_batches, batch_size, n_ctx]."""
    size = config.train.batch_size
    order = np.random.RandomState(prune.seed).permutation(len(corpus.train))[: prune.mean_batches * size]
    tokens = corpus.train.tokens[np.resize(order, prune.mean_batches * size), :-1]
    return np.asarray(tokens).reshape(prune.mean_batches, size, -1)


def _corpus(config: Config, folder: Path) -> Corpus:
    data, generated = config.data, None
    if data.generated_share:
        real = sources.build(data, folder / "data")
        size = int(real.info.metadata["bytes"] * data.generated_share / (1 - data.generated_share))
        words = corpus_words(read_texts(real, "train"))
        generated = list(read_texts(build_generated(words, size, data.seed, folder / "data"), "train"))
    return prepare(data, config.model.vocab_size, config.model.n_ctx, folder, generated)

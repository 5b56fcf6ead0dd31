"""Trains a weight-sparse model, on a laptop or a pod.

    python -m experiments.pretrain --workdir=runs/mine --config.train.steps=4000
    python -m experiments.pretrain --workdir=gs://bucket/mine --config.mesh.model=4 --distributed

Run again with the same command, it goes on from its newest checkpoint.  --config.train.start_from=WORKDIR
starts from the parameters of another run, or of a released model, with fresh schedules.
"""

from pathlib import Path
from typing import Any

from absl import flags

from circuits_jax.config import Config, to_dict
from circuits_jax.data import sources
from circuits_jax.data.bigram import bigram_logits
from circuits_jax.data.corpus import Corpus, prepare, read_texts
from circuits_jax.data.generated_source import build_generated, corpus_words
from circuits_jax.data.local import keep_tokenizer, local_folder
from circuits_jax.errors import UserError
from circuits_jax.sparsity.report import summarize_sparsity
from circuits_jax.training import processes
from circuits_jax.training.checkpoints import newest
from circuits_jax.training.loop import Trainer
from circuits_jax.training.pretraining import pretraining
from circuits_jax.training.state import TrainState
from circuits_jax.training.workdir import check, claim
from experiments import common
from experiments.start import Start, bring_tokenizer, check_fits, read_start, tell

_TENSORBOARD = flags.DEFINE_bool("tensorboard", False, "Write TensorBoard summaries too.")


def pretrain(config: Config, workdir: Path, tensorboard: bool = False) -> tuple[TrainState, Corpus]:
    """Prepares the corpus and trains to the last step, resuming what is there."""
    processes.agree(to_dict(config))
    check(workdir, config)
    start = _start(config, workdir)
    with processes.primary_first("corpus"):
        if start is not None:
            bring_tokenizer(start, local_folder(workdir), config.model.vocab_size)
        corpus = prepare_corpus(config, workdir)
    processes.agree({"corpus": dict(corpus.train.counts), "tokenizer": corpus.tokenizer.hash})
    claim(workdir, config)  # only now: settings that the corpus refuses must not hold the folder
    program = pretraining(config, lambda: _first_parameters(config, corpus, start))
    return Trainer(program, config, corpus, workdir, tensorboard).run(), corpus


def prepare_corpus(config: Config, workdir: Path) -> Corpus:
    """The corpus, with generated programs mixed in at the configured share.

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


def _corpus(config: Config, folder: Path) -> Corpus:
    data, generated = config.data, None
    if data.generated_share:
        real = sources.build(data, folder / "data")
        size = int(real.info.metadata["bytes"] * data.generated_share / (1 - data.generated_share))
        words = corpus_words(read_texts(real, "train"))
        generated = list(read_texts(build_generated(words, size, data.seed, folder / "data"), "train"))
    return prepare(data, config.model.vocab_size, config.model.n_ctx, folder, generated)


def _start(config: Config, workdir: Path) -> Start | None:
    """The model that a run without a checkpoint is to start from, if it is to start from one."""
    if config.train.start_from is None or newest(workdir) is not None:
        return None
    start = read_start(config.train.start_from)
    check_fits(start, config)
    if processes.is_primary():
        print(tell(start, config))
    return start


def _first_parameters(config: Config, corpus: Corpus, start: Start | None) -> dict[str, Any] | None:
    """What takes the place of random parameters in the first state."""
    if start is not None:
        return dict(start.params)
    if config.train.bigram_prior is None or not config.model.bigram:
        return None
    vocab, prior = config.model.vocab_size, config.train.bigram_prior
    return {"bigram": bigram_logits(corpus.train.tokens, vocab, prior)}


def main() -> None:
    """The command."""
    state, _ = pretrain(common.read_config(), common.workdir(), _TENSORBOARD.value)
    summary = summarize_sparsity(state.params)
    if processes.is_primary():
        print(summary)


if __name__ == "__main__":
    common.run(main)

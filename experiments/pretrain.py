"""Trains a weight-sparse model on Python source.

    python -m experiments.pretrain --workdir=runs/mine --config.train.steps=4000

Run again with the same command, it goes on from its newest checkpoint.
"""

from pathlib import Path

from absl import flags

from circuits_jax.config import Config
from circuits_jax.data import python_source
from circuits_jax.data.corpus import Corpus, prepare, read_texts
from circuits_jax.data.generated_source import build_generated, corpus_words
from circuits_jax.sparsity.report import summarize_sparsity
from circuits_jax.training.loop import Trainer
from circuits_jax.training.state import TrainState
from circuits_jax.training.workdir import check, claim
from experiments import common

_TENSORBOARD = flags.DEFINE_bool("tensorboard", False, "Write TensorBoard summaries too.")


def pretrain(config: Config, workdir: Path, tensorboard: bool = False) -> tuple[TrainState, Corpus]:
    """Prepares the corpus and trains to the last step, resuming what is there."""
    check(workdir, config)
    corpus = prepare_corpus(config, workdir)
    claim(workdir, config)  # only now: settings that the corpus refuses must not hold the folder
    return Trainer(config, corpus, workdir, tensorboard).run(), corpus


def prepare_corpus(config: Config, workdir: Path) -> Corpus:
    """The corpus, with generated programs mixed in at the configured share."""
    data, generated = config.data, None
    if data.generated_share:
        real = python_source.build(data, workdir / "data")
        size = int(real.info.metadata["bytes"] * data.generated_share / (1 - data.generated_share))
        words = corpus_words(read_texts(real, "train"))
        generated = list(read_texts(build_generated(words, size, data.seed, workdir / "data"), "train"))
    return prepare(data, config.model.vocab_size, config.model.n_ctx, workdir, generated)


def main() -> None:
    """The command."""
    state, _ = pretrain(common.read_config(), common.workdir(), _TENSORBOARD.value)
    print(summarize_sparsity(state.params))


if __name__ == "__main__":
    common.run(main)

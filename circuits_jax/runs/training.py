"""Trains a run, on a laptop or a pod."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import jax

from circuits_jax.config import Config, to_dict
from circuits_jax.data.corpus import Corpus
from circuits_jax.model.model import Model
from circuits_jax.model.oddities import refuse_silenced
from circuits_jax.model.parameters import merged, trained_part
from circuits_jax.runs.companions import START, remember_companion, settle_companion
from circuits_jax.runs.corpora import corpus_to_train, remember_store, settle, with_corpus
from circuits_jax.runs.opening import load_model
from circuits_jax.runs.run import Run
from circuits_jax.runs.snapshots import Snapshots
from circuits_jax.runs.starts import bring_tokenizer, check_fits, first_table, tell
from circuits_jax.storage import filenames, notices
from circuits_jax.storage.errors import ConfigError, check_kind
from circuits_jax.storage.paths import as_path, exists
from circuits_jax.storage.surroundings import settled
from circuits_jax.training.checkpoints import newest
from circuits_jax.training.device_memory import TRAINING, memory_told
from circuits_jax.training.frozen import keep_frozen, read_frozen
from circuits_jax.training.layout import make_layout
from circuits_jax.training.loop import Trainer
from circuits_jax.training.multihost import processes
from circuits_jax.training.pretraining import pretraining
from circuits_jax.training.state import TrainState
from circuits_jax.training.workdir import check, claimed, load_config, owned


@settled
def train(config: Config, workdir: str | Path, tensorboard: bool = False) -> Run:
    """Prepares the corpus and trains to the last step; what is there already is gone on from.

    Args:
      config: Of `load_config`, or made of the dataclasses of `circuits_jax.config`.
      workdir: The folder of the run, local or in a bucket; one of another training is refused.
      tensorboard: Whether to write TensorBoard summaries too.

    Returns:
      The trained run.

    Raises:
      UserError: for settings, a corpus or a workdir that cannot be used, or a run that cannot go on.
      Stopped: when the run was asked to stop (`storage.stopping`); its state is saved.
    """
    check_kind("the configuration", config, Config, "what cj.load_config makes of its name or file")
    check_kind("the workdir", workdir, (str, os.PathLike), "a folder")
    if not str(workdir):
        raise ConfigError("the workdir is empty; name a folder, or . for this one")
    folder = as_path(workdir)
    state, corpus = pretrain(config, folder, tensorboard)
    config = load_config(folder)
    frozen = read_frozen(config, folder, corpus.tokenizer, lambda: corpus)
    params = merged(processes.fetch(state.params), frozen)
    model = Model(config.model, params, corpus.tokenizer, str(folder))
    notices.tell()
    return Run(model, folder, config, prepared=corpus)


def pretrain(config: Config, workdir: Path, tensorboard: bool = False) -> tuple[TrainState, Corpus]:
    """`train`, giving the state as it lies on the devices, and the corpus."""
    processes.agree(to_dict(config))
    make_layout(pretraining(config), config)  # refuses what does not fit the devices, before anything is made
    config = settle_companion(settle(config, workdir), workdir, START)
    if not exists(workdir / filenames.CONFIG):
        refuse_silenced(config.model)
    check(workdir, config)
    with owned(workdir):
        start = _start(config, workdir)

        def bring(folder: Path) -> None:
            if start is not None:
                bring_tokenizer(start, folder, config.model.vocab_size)

        corpus = corpus_to_train(config, workdir, bring)
        config = with_corpus(config, corpus)
        processes.agree({"corpus": corpus.hash})
        # Only now: settings that the corpus refuses must not hold the folder.
        with claimed(workdir, config), memory_told(TRAINING):
            remember_store(config, workdir)
            if start is not None:
                remember_companion(workdir, START, start)
            frozen = keep_frozen(config, workdir, corpus)
            program = pretraining(config, lambda: _first_parameters(config, corpus, start), frozen)
            if config.train.snapshots:
                program = dataclasses.replace(
                    program, snapshot=Snapshots(config, workdir, corpus.tokenizer).keep
                )
            return Trainer(program, config, corpus, workdir, tensorboard).run(), corpus


def _start(config: Config, workdir: Path) -> Model | None:
    """The model that a run without a checkpoint is to start from, if it is to start from one."""
    if config.train.start_from is None or newest(workdir) is not None:
        return None
    start = load_model(config.train.start_from)
    check_fits(start, config)
    if processes.is_primary():
        print(tell(start, config))
    return start


def _first_parameters(config: Config, corpus: Corpus, start: Model | None) -> dict[str, Any] | None:
    """What takes the place of random parameters in the first state."""
    if start is not None:
        return trained_part(config.model, start.params)
    return first_table(config, corpus)


def count_parameters(model: Model) -> int:
    """Entries of all tensors."""
    return sum(leaf.size for leaf in jax.tree.leaves(model.params))

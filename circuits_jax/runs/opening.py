"""Opens a trained model, wherever it lies: a workdir of ours, a released checkpoint, the sparse format."""

import dataclasses
import os
from pathlib import Path

from circuits_jax import released
from circuits_jax.config import Config
from circuits_jax.data.corpus import Corpus
from circuits_jax.data.local_copy import local_folder
from circuits_jax.data.tokenizers.bpe import load_tokenizer
from circuits_jax.model import oddities
from circuits_jax.model.model import Model
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.released.remote import HUB
from circuits_jax.runs.corpora import open_corpus
from circuits_jax.runs.run import Run
from circuits_jax.runs.shipped import NAME as SHIPPED
from circuits_jax.runs.shipped import load_shipped
from circuits_jax.storage import filenames
from circuits_jax.storage.errors import CheckpointError, ConfigError, check_kind
from circuits_jax.storage.paths import as_path, exists, may_be_folder
from circuits_jax.storage.surroundings import settled
from circuits_jax.training.checkpoints import newest
from circuits_jax.training.run import read_run


@settled
def load(
    source: str | Path,
    strict: bool = True,
    store: str | Path | None = None,
    workdir: str | Path | None = None,
) -> Run:
    """Opens a trained model; the one door for every kind of source.

    Args:
      source: One of
        * "shipped", the model that comes with the library (a folder of that name is "./shipped");
        * the workdir of a run of ours, a folder or a bucket's (`gs://bucket/run`);
        * a folder or file of a released checkpoint (docs/method.md, "Released models"), `hf:owner/name`
          or a URL of one;
        * a folder in the sparse format of `released.save_sparse`.
      strict: For released checkpoints: whether unknown settings and surplus tensors are errors.
      store: For a workdir: the folder that its corpus lies in, if that was shared and has moved.
      workdir: For "shipped": the folder that results go to, by default runs/shipped.

    Returns:
      A Run.  One that did not come from a workdir of ours has no workdir and no corpus.  That of the shipped
      model makes its workdir when a result is first to be kept.

    Raises:
      UserError: if there is nothing of the kind, or it cannot be read.
    """
    check_kind("the model", source, (str, os.PathLike), "a folder, a file or hf:owner/name")
    name = str(source)
    if not name:
        raise ConfigError("the name of the model is empty; name a folder, or . for this one")
    if is_shipped(source):
        if store is not None:
            raise ConfigError(f"the model {name} has its corpus with it; leave the store out")
        return load_shipped(workdir)
    if workdir is not None:
        raise ConfigError(f"{name} is no model that comes with the library, and takes no other workdir")
    if name.startswith(HUB) or not may_be_folder(name):
        return Run(released.load_any(name, strict))
    folder = as_path(source)
    if exists(folder / filenames.CHECKPOINTS):
        return _open(folder, store)
    if not exists(folder):
        raise CheckpointError(
            f"there is no model {name}; name a workdir (train one: python -m circuits_jax pretrain) or a "
            "released checkpoint"
        )
    if exists(folder / filenames.CONFIG) and exists(folder / filenames.METRICS):
        raise CheckpointError(f"no checkpoint in {folder}; train first (python -m circuits_jax pretrain)")
    return Run(released.load_any(folder, strict))


def is_shipped(source: str | Path) -> bool:
    """Whether a person means the model that comes with the library; ./shipped, or a Path, is a folder."""
    return isinstance(source, str) and source == SHIPPED


def load_workdir(workdir: str | Path, store: str | Path | None = None) -> Run:
    """The run in `workdir`, which must be a workdir of ours.

    Args:
      workdir: Its folder.
      store: As `load` has it.

    Raises:
      UserError: if it holds no run, or one without a checkpoint.
    """
    if not str(workdir):
        raise ConfigError("the workdir is empty; name a folder, or . for this one")
    return _open(as_path(workdir), store)


def load_tokenizer_and_model(workdir: Path) -> tuple[Tokenizer, Model | None]:
    """The tokenizer of a run in `workdir`, and its model once there is a checkpoint.

    Raises:
      UserError: if it holds no run.
    """
    file = local_folder(workdir) / filenames.TOKENIZER
    if newest(workdir) is None and exists(file):
        return load_tokenizer(file), None
    run = load_workdir(workdir)
    return run.tokenizer, run.model


def load_model(source: str | Path) -> Model:
    """The model alone of what `load` takes.

    Raises:
      UserError: as `load` does.
    """
    return load(source).model


def _open(folder: Path, store: str | Path | None) -> Run:
    def corpus(config: Config) -> Corpus:
        return open_corpus(_stored(config, store), folder)

    config, model = read_run(folder, corpus)
    oddities.tell(model.name, model.config, model.params)
    return Run(model, folder, _stored(config, store))


def _stored(config: Config, store: str | Path | None) -> Config:
    """`config` with the folder that its corpus lies in, where that is given."""
    if store is None:
        return config
    return dataclasses.replace(config, data=dataclasses.replace(config.data, store=str(store)))

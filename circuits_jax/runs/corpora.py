"""The corpus of a run: made once, found again by its hash; and the windows that means are taken over."""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from circuits_jax.config import STANDARD_SHARES, Config, PruneConfig
from circuits_jax.data import store
from circuits_jax.data.corpus import Corpus, generate_programs_like, give_tokenizer, prepare
from circuits_jax.data.local_copy import (
    fetch_corpus,
    keep_tokenizer,
    local_folder,
    publish_corpus,
    stand_in,
)
from circuits_jax.data.sources import content_of
from circuits_jax.storage import filenames, places
from circuits_jax.storage.errors import ConfigError, CorpusError, UserError
from circuits_jax.storage.files import write_json
from circuits_jax.storage.paths import as_path, exists
from circuits_jax.tasks.withheld import spells_withheld
from circuits_jax.training.multihost import processes
from circuits_jax.training.workdir import SOURCE, load_config

STORE = "data.store"
COUNTED = 16384  # windows that tokens are counted in


def settle(config: Config, workdir: Path) -> Config:
    """`config` with what it leaves open about its corpus: as the run in `workdir` has it, if there is one.

    A run that has its corpus needs no sources.  Where the same documents lie elsewhere by now, and `config`
    says where, it is the same run.

    Raises:
      ConfigError: if the run there cannot be read, or the sources that `config` names elsewhere cannot be.
    """
    data = config.data
    if not exists(workdir / filenames.CONFIG):
        if data.generated_share is None:
            share = STANDARD_SHARES[data.grammar] if data.is_standard_library else 0.0
            data = dataclasses.replace(data, generated_share=share)
        return dataclasses.replace(config, data=data)
    there = load_config(workdir).data
    if data.generated_share is None:
        data = dataclasses.replace(data, generated_share=there.generated_share)
    if there.hash is not None and data.hash is None:
        before = {name: getattr(there, name) for name in SOURCE}
        if any(getattr(data, name) != value for name, value in before.items()):
            known = dataclasses.replace(data, hash=there.hash)
            folder = _find(dataclasses.replace(config, data=known), workdir)
            if folder is None or content_of(data) != store.read(folder).content:
                return dataclasses.replace(config, data=data)  # another corpus: `workdir.check` says so
        data = dataclasses.replace(data, hash=there.hash, **before)
    if data.store is None:
        data = dataclasses.replace(data, store=there.store)
    return dataclasses.replace(config, data=data)


def corpus_to_train(config: Config, workdir: Path, bring: Callable[[Path], None]) -> Corpus:
    """The corpus of a run that is about to train, the same on every process; process 0 makes it.

    Args:
      config: As `settle` gives it.
      workdir: Of the run.
      bring: Puts a tokenizer that the run does not train itself into the workdir's local folder.

    Raises:
      UserError: for a corpus that cannot be used, where it cannot be written, or where a process cannot see
        what process 0 made.
    """
    corpus = None
    with processes.primary_first("corpus"):
        if processes.is_primary():
            with _writable(workdir):
                bring(local_folder(workdir))
            corpus = _own(config, workdir) if config.data.hash else _make(config, workdir)
    name = processes.from_primary(corpus.hash if corpus is not None else "")
    if corpus is None:
        known = dataclasses.replace(config, data=dataclasses.replace(config.data, hash=name))
        corpus = _own(known, workdir)
    return corpus


def with_corpus(config: Config, corpus: Corpus) -> Config:
    """`config` with the hash of its corpus."""
    return dataclasses.replace(config, data=dataclasses.replace(config.data, hash=corpus.hash))


def open_corpus(config: Config, workdir: Path) -> Corpus:
    """The corpus of a run that is there, found by its hash.

    A run that has none, being older than that or imported, gets it now from its sources, unless reading these
    runs code: the user did not name them.

    Raises:
      UserError: for a corpus that is missing or damaged, or sources that are missing, have changed, or would
        run code.
    """
    if config.data.hash is not None:
        return _own(config, workdir)
    try:
        corpus = _make(settle(config, workdir), workdir, named=False)
    except ConfigError as error:
        raise CorpusError(
            f"the run {workdir} has no corpus of its own (it is imported, or of an earlier release), and its "
            f"sources cannot be read: {error}"
        ) from error
    with contextlib.suppress(OSError):  # then it is looked for again
        _write_hash(workdir, corpus.hash)
    return corpus


def share_corpus(config: Config, workdir: Path, other: Path) -> None:
    """Gives another run the corpus of the one in `workdir`: as its own, or the way to a shared one."""
    if not processes.is_primary():
        return
    for place, folder in _found(config, workdir):
        if folder is not None and place == workdir / filenames.DATA:
            here = stand_in(other) / filenames.DATA
            store.link(folder, here)
            publish_corpus(here / folder.name, other / filenames.DATA)
            return
        if folder is not None:
            places.remember(other, STORE, place)
            return


def remember_store(config: Config, workdir: Path) -> None:
    """Writes down where a shared corpus lies now, for when workdir or corpus have moved."""
    place = next((place for place, folder in _found(config, workdir) if folder is not None), None)
    if place not in (None, workdir / filenames.DATA) and processes.is_primary():
        places.remember(workdir, STORE, place)


def reference_windows(corpus: Corpus, config: Config, prune: PruneConfig) -> np.ndarray:
    """Training windows that mean activations are taken over, int32 [mean_batches, batch_size, n_ctx]."""
    size = config.train.batch_size
    order = np.random.RandomState(prune.seed).permutation(len(corpus.train))[: prune.mean_batches * size]
    tokens = corpus.train.rows(np.resize(order, prune.mean_batches * size))[:, :-1]
    return tokens.reshape(prune.mean_batches, size, -1)


def token_counts(corpus: Corpus, vocab_size: int) -> np.ndarray:
    """How often each token occurs in training windows, evenly taken, at most COUNTED of them: int64 [V]."""
    which = np.linspace(0, len(corpus.train) - 1, min(len(corpus.train), COUNTED)).astype(int)
    return np.bincount(corpus.train.rows(which).ravel(), minlength=vocab_size)


def _own(config: Config, workdir: Path) -> Corpus:
    """The corpus that `config.data.hash` names."""
    name = str(config.data.hash)
    folder = _find(config, workdir)
    if folder is None:
        looked = ", ".join(str(place) for place in dict(_places(config, workdir)))
        raise CorpusError(
            f"the corpus {name} of the run {workdir} lies in none of {looked}; copy its folder {name} into "
            f"{workdir / filenames.DATA}, or name the folder that it lies in: --store=FOLDER"
        )
    corpus = store.read(folder)
    if corpus.hash != name:
        raise CorpusError(
            f"{folder} holds the corpus {corpus.hash} and not that of its name, which is the run's; "
            "move it away, and copy the run's own there"
        )
    with _writable(workdir):
        give_tokenizer(folder, corpus, local_folder(workdir))
    return corpus


def _find(config: Config, workdir: Path) -> Path | None:
    """The local folder of the corpus that `config.data.hash` names."""
    return next((folder for _, folder in _found(config, workdir) if folder is not None), None)


def _found(config: Config, workdir: Path) -> Iterator[tuple[Path, Path | None]]:
    """(place, the local folder of the corpus if that place has it) of every place in turn."""
    for place, here in _places(config, workdir):
        yield place, fetch_corpus(place, str(config.data.hash), here)


def _places(config: Config, workdir: Path) -> Iterator[tuple[Path, Path]]:
    """(folder that may hold the run's corpus, local folder that stands for it), the likeliest first."""
    seen = [workdir / filenames.DATA]
    yield seen[0], stand_in(workdir) / filenames.DATA
    given = [] if config.data.store is None else [as_path(config.data.store)]
    for place in (*given, *places.remembered(workdir, STORE)):
        if place not in seen:
            seen.append(place)
            yield place, stand_in(place)


def _make(config: Config, workdir: Path, named: bool = True) -> Corpus:
    """A corpus made of the sources, which the user `named` or a workdir, kept where the run keeps it."""
    folder, data = local_folder(workdir), config.data
    place = workdir / filenames.DATA if data.store is None else as_path(data.store)
    here = folder / filenames.DATA if data.store is None else stand_in(place)
    with _writable(folder):
        local = dataclasses.replace(data, store=str(here))
        # No program may hold what choices are made by and figures reported of; `data` knows no tasks.
        programs = functools.partial(generate_programs_like, withheld=spells_withheld)
        sizes = config.model.vocab_size, config.model.n_ctx
        corpus = prepare(local, *sizes, folder, programs, named)
        keep_tokenizer(folder, workdir)
        publish_corpus(here / corpus.hash, place)
    return corpus


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Tells in a line that what a corpus needs cannot be written to `folder`, or which other file is closed.

    Raises:
      UserError: in place of an error of the disk.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        # array_record tells of a full disk by a RuntimeError; any other is a defect.
        if isinstance(error, RuntimeError) and "write() failed" not in str(error):
            raise
        name = getattr(error, "filename", None)
        if isinstance(name, str) and not as_path(name).is_relative_to(folder):
            why = getattr(error, "strerror", None) or error
            raise UserError(f"{name} cannot be used: {why}; make it readable, or name another") from error
        raise UserError(
            f"the corpus cannot be written to {folder} ({error}); make room, or make the folder "
            "writable, and give the same command again"
        ) from error


def _write_hash(workdir: Path, name: str) -> None:
    """Adds a corpus' hash to the configuration in a workdir."""
    path = workdir / filenames.CONFIG
    values = json.loads(path.read_bytes())
    values["data"]["hash"] = name
    write_json(path, values)

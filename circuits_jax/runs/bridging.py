"""Bridges between a dense and a sparse model: trained, read back, judged.

The workdir gets `bridge/` (the bridges), `sparse/` (a coupled sparse model, a workdir like any other),
`bridges.json` and `bridges.html`.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from circuits_jax.bridges.evaluation import Evaluator, Joined
from circuits_jax.bridges.model import BRIDGES, SPARSE, Bridge, make_bridge
from circuits_jax.bridges.records import COMMAND, Hashes, load_bridge, save_bridge, save_model
from circuits_jax.bridges.report import bridge_report, site_rows
from circuits_jax.bridges.ridge import fit_ridge
from circuits_jax.bridges.training import bridging
from circuits_jax.config import Config, to_dict
from circuits_jax.data.corpus import Corpus
from circuits_jax.data.local_copy import local_folder
from circuits_jax.data.windows import Windows
from circuits_jax.model.model import Model
from circuits_jax.model.oddities import refuse_silenced
from circuits_jax.model.parameters import merged, trained_part
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.model.transformer import init_params
from circuits_jax.runs.companions import DENSE, START, open_companion, remember_companion, settle_companion
from circuits_jax.runs.companions import SPARSE as TRAINED
from circuits_jax.runs.corpora import (
    corpus_to_train,
    remember_store,
    settle,
    share_corpus,
    with_corpus,
)
from circuits_jax.runs.opening import load_model
from circuits_jax.runs.pages import Page
from circuits_jax.runs.starts import bring_tokenizer, check_fits, first_table, tell
from circuits_jax.storage import filenames
from circuits_jax.storage.errors import BridgeError
from circuits_jax.storage.paths import as_path, exists, may_be_folder
from circuits_jax.storage.tables import Row, save_table
from circuits_jax.training.checkpoints import newest
from circuits_jax.training.device_memory import TRAINING, memory_told
from circuits_jax.training.frozen import keep_frozen
from circuits_jax.training.layout import make_layout
from circuits_jax.training.loop import Trainer
from circuits_jax.training.multihost import processes
from circuits_jax.training.workdir import check, claimed, load_config, owned
from circuits_jax.viewer.bridge_page import write_bridge_page


@dataclasses.dataclass(frozen=True)
class BridgedModels:
    """Bridges, read back from their workdir with both models.

    Attributes:
      config: The run's configuration.
      joined: The models and their bridges.
      tokenizer: That of both models.
      sparse_workdir: Where the sparse model lies.
    """

    config: Config
    joined: Joined
    tokenizer: Tokenizer
    sparse_workdir: Path


def train_bridges(config: Config, workdir: str | Path, tensorboard: bool = False) -> tuple[Joined, Corpus]:
    """Prepares the corpus and trains to the last step, resuming what is there; saves bridges and model."""
    workdir = as_path(workdir)
    if config.train.snapshots:
        raise BridgeError(
            f"train.snapshots is {config.train.snapshots}, and snapshots are kept of language models alone, "
            "not of bridges; set it to 0"
        )
    dense, sparse = read_models(config, workdir)
    for setting, model in ((DENSE, dense), (TRAINED, sparse)):
        config = settle_companion(config, workdir, setting, model)
    config = settle_companion(config, workdir, START)
    config = config if sparse is None else dataclasses.replace(config, model=sparse.config)
    make_bridge(dense.config, config.model, config.bridge)  # refuses what cannot be bridged
    start = _read_start(config, dense, workdir)
    processes.agree(to_dict(config))
    make_layout(bridging(config, dense, sparse), config)  # refuses what does not fit, before anything is made
    config = settle(config, workdir)
    if sparse is None and not exists(workdir / filenames.CONFIG):
        refuse_silenced(config.model)
    check(workdir, config)
    with owned(workdir):
        return _train(config, workdir, (dense, sparse, start), tensorboard)


def _train(
    config: Config, workdir: Path, models: tuple[Model, Model | None, Model | None], tensorboard: bool
) -> tuple[Joined, Corpus]:
    """Trains with the dense model, a sparse one if it is trained already, and what one starts from if not."""
    dense, sparse, start = models
    bridge = make_bridge(dense.config, config.model, config.bridge)
    chosen = _with_tokenizer(dense, sparse)
    corpus = corpus_to_train(
        config, workdir, lambda folder: bring_tokenizer(chosen, folder, config.model.vocab_size)
    )
    config = with_corpus(config, corpus)
    with claimed(workdir, config), memory_told(TRAINING):
        remember_store(config, workdir)
        for setting, model in ((DENSE, dense), (TRAINED, sparse), (START, start)):
            if model is not None:
                remember_companion(workdir, setting, model)
        frozen = keep_frozen(config, workdir, corpus) if sparse is None else {}
        first = FirstParameters(config, corpus, bridge, dense, sparse, start)
        program = bridging(config, dense, sparse, first.find, frozen)
        params = processes.fetch(Trainer(program, config, corpus, workdir, tensorboard).run().params)
    if sparse is None:
        place = workdir / filenames.SPARSE
        trained = Model(config.model, merged(params[SPARSE], frozen), corpus.tokenizer, str(place))
        keep_frozen(config, place, corpus)
        save_model(place, config, trained.params, local_folder(workdir))
        share_corpus(config, workdir, place)
    joined = Joined(bridge, dense, trained if sparse is None else sparse, params[BRIDGES])
    if processes.is_primary():
        hashes = hashes_of(joined, corpus.tokenizer)
        save_bridge(workdir / filenames.BRIDGE, bridge, joined.bridges, config.bridge, hashes)
    return joined, corpus


def read_models(config: Config, workdir: Path, elsewhere: Config | None = None) -> tuple[Model, Model | None]:
    """The dense model of a configuration, and the sparse one if that is trained already.

    Args:
      config: Names them.
      workdir: Of the bridges, where they may have written down more places.
      elsewhere: Names, in its `bridge`, where they lie by now.

    Raises:
      BridgeError: if no dense model is named, or the two have different tokenizers.
      CheckpointError: if one cannot be found.
    """
    now = config.bridge if elsewhere is None else elsewhere.bridge
    if config.bridge.dense is None:
        raise BridgeError("no dense model is named; give --config.bridge.dense=WORKDIR, or a checkpoint")
    dense = open_companion(workdir, DENSE, (now.dense, config.bridge.dense))
    if config.bridge.sparse is None:
        return dense, None
    sparse = open_companion(workdir, TRAINED, (now.sparse, config.bridge.sparse))
    _check_tokenizers(dense, sparse)
    return dense, sparse


def read_bridges(workdir: str | Path, elsewhere: Config | None = None) -> BridgedModels:
    """The bridges in `workdir` with their models.

    Args:
      workdir: Their folder.
      elsewhere: Names, in `bridge` and `data.store`, where models and corpus lie by now, if they have moved.

    Raises:
      BridgeError: if there are none, or the models are no longer those that they were trained with.
    """
    workdir = as_path(workdir)
    config = load_config(workdir)
    if config.bridge.dense is None:
        raise BridgeError(
            f"{workdir} holds a run without bridges; train some in a folder of their own: {COMMAND}"
        )
    if elsewhere is not None and elsewhere.data.store is not None:
        config = dataclasses.replace(
            config, data=dataclasses.replace(config.data, store=elsewhere.data.store)
        )
    dense, sparse = read_models(config, workdir, elsewhere)
    place = workdir / filenames.SPARSE
    if sparse is not None and may_be_folder(sparse.source):
        place = as_path(sparse.source)
    sparse = load_model(str(place)) if sparse is None else sparse
    tokenizer = _with_tokenizer(sparse, dense).tokenizer
    if tokenizer is None:
        raise BridgeError(f"no tokenizer lies beside {dense.source} or {sparse.source}")
    bridge, bridges = load_bridge(workdir / filenames.BRIDGE, Hashes(dense.hash, sparse.hash, tokenizer.hash))
    return BridgedModels(config, Joined(bridge, dense, sparse, bridges), tokenizer, place)


def hashes_of(joined: Joined, tokenizer: Tokenizer) -> Hashes:
    """What bridges between these models belong to."""
    return Hashes(joined.dense.hash, joined.sparse.hash, tokenizer.hash)


def _read_start(config: Config, dense: Model, workdir: Path) -> Model | None:
    """The model that a coupled sparse one without a checkpoint is to start from, if it is to start from one.

    Raises:
      BridgeError: if its tokenizer is another, or the sparse model is one that is not trained at all.
      CheckpointError: if it is of another shape than `config.model`.
    """
    if config.train.start_from is None:
        return None
    if config.bridge.sparse is not None:
        raise BridgeError(
            "train.start_from names what a coupled sparse model starts from, and bridge.sparse one that is "
            "frozen; give one of them"
        )
    if newest(workdir) is not None:
        return None
    start = load_model(config.train.start_from)
    check_fits(start, config)
    _check_tokenizers(dense, start)
    if processes.is_primary():
        print(tell(start, config))
    return start


def _with_tokenizer(first: Model, second: Model | None) -> Model:
    """Whichever of two models has a tokenizer beside it, `first` if it has."""
    return first if first.tokenizer is not None or second is None else second


def _check_tokenizers(dense: Model, sparse: Model) -> None:
    first, second = dense.tokenizer, sparse.tokenizer
    if first is not None and second is not None and first.hash != second.hash:
        raise BridgeError(
            f"{dense.source} and {sparse.source} have different tokenizers ({first.hash[:12]} and "
            f"{second.hash[:12]}); bridges join models of one tokenizer"
        )


@dataclasses.dataclass(frozen=True)
class FirstParameters:
    """What takes the place of random parameters in a run's first state.

    Attributes:
      config, corpus: Of the run.
      bridge: How the models are joined.
      dense: The dense model.
      sparse: The sparse model, where it is trained already.
      start: What a coupled sparse model starts from, if anything.
    """

    config: Config
    corpus: Corpus
    bridge: Bridge
    dense: Model
    sparse: Model | None
    start: Model | None

    def find(self) -> dict[str, Any] | None:
        """A trained sparse model, or the bigram table of a new one, and closed-form bridges to a trained one,
        as far as they are configured.
        """
        config, first = self.config, dict[str, Any]()
        trained = self.start or self.sparse
        if self.start is not None:
            first[SPARSE] = trained_part(config.model, self.start.params)
        elif trained is None and (table := first_table(config, self.corpus)):
            params = jax.jit(lambda: init_params(config.model, jax.random.PRNGKey(config.train.seed)))()
            first[SPARSE] = {**jax.device_get(params), **table}
        if trained is not None and config.bridge.warm_start:
            joined = Joined(self.bridge, self.dense, trained, {})
            streams = Evaluator(joined).streams(_fitted(self.corpus, config))
            first[BRIDGES] = fit_ridge(self.bridge, streams, config.bridge.ridge)
        return first or None


def _fitted(corpus: Corpus, config: Config) -> list[np.ndarray]:
    """Training batches, at random, that closed-form bridges and means are of."""
    count = config.bridge.ridge_batches * config.train.batch_size
    rows = np.random.RandomState(config.data.seed).permutation(len(corpus.train))[:count]
    return _batches(corpus.train, np.resize(rows, count), config)


def _held(corpus: Corpus, config: Config) -> list[np.ndarray]:
    """The validation batches of training, which are spread over the whole split."""
    windows, size = corpus.validation, config.train.batch_size
    count = max(1, min(config.train.eval_batches, len(windows) // size))
    return _batches(windows, np.linspace(0, len(windows) - 1, count * size).astype(int), config)


def _batches(windows: Windows, rows: np.ndarray, config: Config) -> list[np.ndarray]:
    return list(windows.rows(rows).reshape(-1, config.train.batch_size, windows.n_ctx + 1))


def evaluate(
    joined: Joined, corpus: Corpus, config: Config, workdir: str | Path
) -> tuple[list[Row], Row, Page]:
    """Writes `bridges.json` and the page.

    Returns:
      (one row a site and direction, figures of the whole models, the page).
    """
    workdir = as_path(workdir)
    report = bridge_report(joined, _fitted(corpus, config), _held(corpus, config), config.bridge.ridge)
    summary: Row = {
        "dense model": str(config.bridge.dense),
        "cross-entropy of the dense model": report["whole"]["dense"][1],
        "cross-entropy of the sparse model": report["whole"]["sparse"][1],
        "KL(dense || sparse)": report["whole"]["sparse"][0],
    }
    rows = site_rows(report)
    save_table(rows, workdir / filenames.BRIDGES, summary, {"report": report})
    return rows, summary, Page.of(write_bridge_page(workdir))

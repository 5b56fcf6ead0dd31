"""Trains bridges between a dense and a sparse model, and says how well they bridge.

    python -m experiments.bridges --config=experiments/configs/bridges.py --config.bridge.dense=runs/dense \
        --workdir=runs/bridges
    python -m experiments.bridges --config.bridge.dense=runs/dense --config.bridge.sparse=runs/sparse ...

The first trains the sparse model of `config.model` from scratch, coupled to the dense one (with
--config.train.start_from=runs/sparse from the parameters of a trained one); the second takes a sparse model
as it is and trains bridges alone.  Run again with the same command, it goes on from its newest checkpoint.
The workdir gets `bridge/` (the bridges), `sparse/` (a coupled sparse model, a workdir like any other: cut
circuits with `experiments.prune --workdir=.../sparse`), `bridges.json` and `bridges.html`.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from circuits_jax.bridges.bridge import make_bridge
from circuits_jax.bridges.evaluate import Evaluator, Joined
from circuits_jax.bridges.report import bridge_report, site_rows
from circuits_jax.bridges.ridge import fit_ridge
from circuits_jax.bridges.store import Hashes, load_bridge, save_bridge, save_model
from circuits_jax.bridges.training import BRIDGES, SPARSE, bridging
from circuits_jax.config import Config, to_dict
from circuits_jax.data.bigram import bigram_logits
from circuits_jax.data.corpus import Corpus
from circuits_jax.data.local import local_folder
from circuits_jax.data.tokenizer import Tokenizer
from circuits_jax.errors import BridgeError
from circuits_jax.model.fingerprint import model_hash
from circuits_jax.model.transformer import init_params
from circuits_jax.training import processes
from circuits_jax.training.checkpoints import newest
from circuits_jax.training.loop import Trainer
from circuits_jax.training.workdir import check, claim, load_config
from circuits_jax.viewer.bridge_page import SPARSE as SPARSE_WORKDIR
from circuits_jax.viewer.bridge_page import write_bridge_page
from experiments import common
from experiments.pretrain import prepare_corpus
from experiments.start import Start, bring_tokenizer, check_fits, read_start, tell


@dataclasses.dataclass(frozen=True)
class BridgeRun:
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


def train_bridges(config: Config, workdir: Path, tensorboard: bool = False) -> tuple[Joined, Corpus]:
    """Prepares the corpus and trains to the last step, resuming what is there; saves bridges and model."""
    dense, sparse = read_models(config)
    config = config if sparse is None else dataclasses.replace(config, model=sparse.config)
    bridge = make_bridge(dense.config, config.model, config.bridge)
    start = _read_start(config, dense, workdir)
    processes.agree(to_dict(config))
    check(workdir, config)
    with processes.primary_first("corpus"):
        bring_tokenizer(_with_tokenizer(dense, sparse), local_folder(workdir), config.model.vocab_size)
        corpus = prepare_corpus(config, workdir)
    claim(workdir, config)
    trained = None if sparse is None else (sparse.config, sparse.params)
    joined = Joined(bridge, dense.params, {} if sparse is None else sparse.params, {})

    def first() -> dict[str, Any] | None:
        return _first_parameters(config, corpus, joined, start)

    program = bridging(config, (dense.config, dense.params), trained, first)
    params = processes.fetch(Trainer(program, config, corpus, workdir, tensorboard).run().params)
    joined = Joined(bridge, dense.params, params.get(SPARSE, joined.sparse), params[BRIDGES])
    if sparse is None:
        save_model(workdir / SPARSE_WORKDIR, config, joined.sparse, local_folder(workdir))
    if processes.is_primary():
        hashes = hashes_of(joined, corpus.tokenizer)
        save_bridge(workdir / "bridge", bridge, joined.bridges, config.bridge, hashes)
    return joined, corpus


def read_models(config: Config) -> tuple[Start, Start | None]:
    """The dense model of a configuration, and the sparse one if that is trained already.

    Raises:
      BridgeError: if no dense model is named, or the two have different tokenizers.
    """
    if config.bridge.dense is None:
        raise BridgeError("no dense model is named; give --config.bridge.dense=WORKDIR, or a checkpoint")
    dense = read_start(config.bridge.dense)
    if config.bridge.sparse is None:
        return dense, None
    sparse = read_start(config.bridge.sparse)
    _check_tokenizers(dense, sparse)
    return dense, sparse


def read_bridges(workdir: Path) -> BridgeRun:
    """The bridges in `workdir` with their models.

    Raises:
      BridgeError: if there are none, or the models are no longer those that they were trained with.
    """
    config = load_config(workdir)
    if config.bridge.dense is None:
        raise BridgeError(f"{workdir} holds a run without bridges; train some with experiments.bridges")
    dense, sparse = read_models(config)
    place = workdir / SPARSE_WORKDIR if sparse is None else Path(sparse.source)
    sparse = read_start(str(place)) if sparse is None else sparse
    tokenizer = _with_tokenizer(sparse, dense).tokenizer
    if tokenizer is None:
        raise BridgeError(f"no tokenizer lies beside {dense.source} or {sparse.source}")
    hashes = Hashes(
        model_hash(dense.config, dense.params), model_hash(sparse.config, sparse.params), tokenizer.hash
    )
    bridge, bridges = load_bridge(workdir / "bridge", hashes)
    return BridgeRun(config, Joined(bridge, dense.params, sparse.params, bridges), tokenizer, place)


def hashes_of(joined: Joined, tokenizer: Tokenizer) -> Hashes:
    """What bridges between these models belong to."""
    return Hashes(
        model_hash(joined.bridge.dense, joined.dense),
        model_hash(joined.bridge.sparse, joined.sparse),
        tokenizer.hash,
    )


def _read_start(config: Config, dense: Start, workdir: Path) -> Start | None:
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
    start = read_start(config.train.start_from)
    check_fits(start, config)
    _check_tokenizers(dense, start)
    if processes.is_primary():
        print(tell(start, config))
    return start


def _with_tokenizer(first: Start, second: Start | None) -> Start:
    """Whichever of two models has a tokenizer beside it, `first` if it has."""
    return first if first.tokenizer is not None or second is None else second


def _check_tokenizers(dense: Start, sparse: Start) -> None:
    if None not in (dense.tokenizer, sparse.tokenizer) and dense.tokenizer.hash != sparse.tokenizer.hash:
        raise BridgeError(
            f"{dense.source} and {sparse.source} have different tokenizers ({dense.tokenizer.hash[:12]} and "
            f"{sparse.tokenizer.hash[:12]}); bridges join models of one tokenizer"
        )


def _first_parameters(
    config: Config, corpus: Corpus, joined: Joined, start: Start | None
) -> dict[str, Any] | None:
    """What takes the place of random parameters in the first state: a trained sparse model, or the bigram
    table of a new one, and closed-form bridges to a trained one, as far as they are configured.
    """
    first = {}
    if start is not None:
        joined = dataclasses.replace(joined, sparse=start.params)
        first[SPARSE] = dict(start.params)
    elif not joined.sparse and config.model.bigram and config.train.bigram_prior is not None:
        params = jax.jit(lambda: init_params(config.model, jax.random.PRNGKey(config.train.seed)))()
        table = bigram_logits(corpus.train.tokens, config.model.vocab_size, config.train.bigram_prior)
        first[SPARSE] = {**jax.device_get(params), "bigram": table}
    if joined.sparse and config.bridge.warm_start:
        streams = Evaluator(joined).streams(_fitted(corpus, config))
        first[BRIDGES] = fit_ridge(joined.bridge, streams, config.bridge.ridge)
    return first or None


def _fitted(corpus: Corpus, config: Config) -> list[np.ndarray]:
    """Training batches, at random, that closed-form bridges and means are of."""
    count = config.bridge.ridge_batches * config.train.batch_size
    rows = np.random.RandomState(config.data.seed).permutation(len(corpus.train))[:count]
    return _batches(corpus.train.tokens, np.resize(rows, count), config)


def _held(corpus: Corpus, config: Config) -> list[np.ndarray]:
    """The validation batches of training, which are spread over the whole split."""
    windows, size = corpus.validation.tokens, config.train.batch_size
    count = max(1, min(config.train.eval_batches, len(windows) // size))
    return _batches(windows, np.linspace(0, len(windows) - 1, count * size).astype(int), config)


def _batches(windows: np.ndarray, rows: np.ndarray, config: Config) -> list[np.ndarray]:
    return list(np.asarray(windows)[rows].reshape(-1, config.train.batch_size, windows.shape[-1]))


def evaluate(joined: Joined, corpus: Corpus, config: Config, workdir: Path) -> None:
    """Writes `bridges.json` and the page, and prints the table of the sites."""
    report = bridge_report(joined, _fitted(corpus, config), _held(corpus, config), config.bridge.ridge)
    summary = {
        "dense model": str(config.bridge.dense),
        "cross-entropy of the dense model": report["whole"]["dense"][1],
        "cross-entropy of the sparse model": report["whole"]["sparse"][1],
        "KL(dense || sparse)": report["whole"]["sparse"][0],
    }
    common.report(site_rows(report), workdir / "bridges.json", summary, {"report": report})
    print(write_bridge_page(workdir))


def main() -> None:
    """The command."""
    config, workdir = common.read_config(), common.workdir()
    joined, corpus = train_bridges(config, workdir, flags.FLAGS.tensorboard)  # the flag is pretrain's
    if processes.is_primary():
        evaluate(joined, corpus, config, workdir)


if __name__ == "__main__":
    common.run(main)

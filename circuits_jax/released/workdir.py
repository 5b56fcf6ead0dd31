"""A checkpoint from elsewhere as a workdir of ours, so that every command runs on it."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from circuits_jax.config import Config, PruneConfig, TrainConfig
from circuits_jax.data.corpus import IMPORTED
from circuits_jax.data.tokenizers.folder import load_released_tokenizer, save_released_tokenizer
from circuits_jax.model.model import Model
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.released.any_layout import load_any
from circuits_jax.released.sparse_format import FORMAT
from circuits_jax.sparsity.optimizer import make_optimizer
from circuits_jax.storage import filenames
from circuits_jax.storage.buckets import BucketPath
from circuits_jax.storage.errors import CheckpointError
from circuits_jax.storage.files import read_json_if_any, write_json
from circuits_jax.storage.locks import locked
from circuits_jax.storage.paths import as_path, exists, is_remote
from circuits_jax.training import workdir as workdirs
from circuits_jax.training.checkpoints import Checkpoints
from circuits_jax.training.state import make_init

# One step, and it is taken: the commands find a finished run.
_FINISHED = TrainConfig(steps=1, keep_checkpoints=1)


def as_workdir(
    source: str | Path,
    workdir: str | Path,
    tokenizer: str | Path | None = None,
    strict: bool = True,
    config: Config | None = None,
) -> Path:
    """Writes a workdir whose trained model is the checkpoint `source`.

    It gets `config.json`, the tokenizer's files, a checkpoint in our format with its optimizer at zero, and
    `imported.json`, which says where the model came from.  Pruning, tasks, audit and page then take it as
    they take a model trained here; means and evidence come from the corpus that `config.data` names (the
    standard library), in the model's own tokens.

    Args:
      source: What `load_any` takes.
      workdir: A folder that holds no run yet.
      tokenizer: A folder with the tokenizer's files, if they do not lie beside the weights.
      strict: As `load` has it.
      config: Of the run that the checkpoint is the end of, if it is known; its `model` is the checkpoint's.

    Returns:
      The workdir.

    Raises:
      CheckpointError: if the checkpoint or its tokenizer cannot be read, there is no tokenizer, or `workdir`
        holds a run already.
      UserError: if `workdir` cannot be written, or another process has it; nothing was loaded then.
    """
    workdir = as_path(workdir)
    _refuse_run(workdir)
    with _owned(workdir):
        _refuse_run(workdir)  # that of another process, which was faster
        _clear_unfinished(source, workdir)
        _build(source, workdir, tokenizer, strict, config)
    return workdir


def _refuse_run(workdir: Path) -> None:
    if exists(workdir / filenames.CONFIG):
        raise CheckpointError(f"{workdir} holds a run already; choose another folder")


def _clear_unfinished(source: str | Path, workdir: Path) -> None:
    """Takes away the checkpoint of an import of the same model that was killed: `imported.json` is written
    first, `config.json` last.

    Raises:
      CheckpointError: if there are checkpoints of anything else.
    """
    checkpoints = workdir / filenames.CHECKPOINTS
    if not exists(checkpoints):
        return
    begun = read_json_if_any(workdir / IMPORTED).get("source")
    if begun == str(source):
        if isinstance(checkpoints, BucketPath):
            checkpoints.rmtree()
        else:
            shutil.rmtree(checkpoints)
        return
    of = f"an unfinished import of {begun}" if isinstance(begun, str) else "a run that lost its config.json"
    raise CheckpointError(f"{workdir} has checkpoints of {of}; move them away, or choose another folder")


@contextlib.contextmanager
def _owned(workdir: Path) -> Iterator[None]:
    """Within the block no other process has `workdir`; one that fails leaves no folder that was not there,
    unless another process has finished a run in it meanwhile.
    """
    missing = (
        [] if is_remote(workdir) else [place for place in (workdir, *workdir.parents) if not exists(place)]
    )
    with locked(workdir):
        try:
            yield
        except BaseException:
            if missing and not exists(workdir / filenames.CONFIG):
                shutil.rmtree(workdir, ignore_errors=True)
            with contextlib.suppress(OSError):  # not empty any more
                for place in missing[1:]:
                    place.rmdir()
            raise


def _build(
    source: str | Path, workdir: Path, tokenizer: str | Path | None, strict: bool, config: Config | None
) -> None:
    found = load_any(source, strict)
    words = _tokenizer(found, source, tokenizer)
    ours = found.raw_config.get("format") == FORMAT
    if config is None:
        # Published circuits have nodes at the final residual stream; counts are comparable with them so.
        prune = PruneConfig(final_resid=None if ours else True)
        config = Config(model=found.config, train=_FINISHED, prune=prune)
    workdirs.check(workdir, config)
    write_json(workdir / IMPORTED, {"source": str(source), "config": found.raw_config})
    save_released_tokenizer(words, workdir)
    _save_checkpoint(found, config, workdir)
    workdirs.claim(workdir, config)


def _tokenizer(found: Model, source: str | Path, folder: str | Path | None) -> Tokenizer:
    words = found.tokenizer
    if folder is not None:
        words = load_released_tokenizer(as_path(folder), found.config.vocab_size)
    if words is None:
        raise CheckpointError(
            f"no tokenizer lies in {source if folder is None else folder}; name a folder with encoder.json "
            "and vocab.bpe, or with tokenizer.model"
        )
    return words


def _save_checkpoint(found: Model, config: Config, workdir: Path) -> None:
    shapes = jax.eval_shape(make_init(config, make_optimizer(config)))
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    state = state.replace(params=found.params, step=np.asarray(config.train.steps, shapes.step.dtype))
    checkpoints = Checkpoints(workdir, config.train.keep_checkpoints)
    checkpoints.save(config.train.steps, state)
    checkpoints.close()

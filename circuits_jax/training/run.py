"""A finished, or at least checkpointed, run read back from its workdir."""

from collections.abc import Callable
from pathlib import Path

import jax

from circuits_jax.config import Config
from circuits_jax.data.corpus import Corpus
from circuits_jax.data.local_copy import local_folder
from circuits_jax.data.tokenizers import tinypython
from circuits_jax.data.tokenizers.bpe import load_tokenizer
from circuits_jax.model.model import Model
from circuits_jax.model.parameters import merged, trained_part
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.model.transformer import init_params
from circuits_jax.storage import filenames
from circuits_jax.storage.paths import exists
from circuits_jax.training.checkpoints import Checkpoints
from circuits_jax.training.frozen import read_frozen
from circuits_jax.training.workdir import load_config


def read_run(workdir: Path, corpus: Callable[[Config], Corpus]) -> tuple[Config, Model]:
    """The whole configuration of the run in `workdir`, and its model at the newest checkpoint.

    The parameters are numpy arrays, wherever they were saved from, and those among them that are not trained.

    Args:
      workdir: Its folder.
      corpus: Gives the corpus of a run of that configuration; called only where a file of what the run did
        not train is gone.

    Raises:
      UserError: if there is no run, no checkpoint or no tokenizer, or one of them is damaged.
    """
    config = load_config(workdir)
    checkpoints = Checkpoints(workdir)
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
        trained_part(config.model, jax.eval_shape(lambda: init_params(config.model, jax.random.key(0)))),
    )
    params = checkpoints.restore_params(like)  # without the optimizer's two moments: a third of the memory
    checkpoints.close()
    tokenizer = _tokenizer(config, workdir)
    frozen = read_frozen(config, workdir, tokenizer, lambda: corpus(config))
    return config, Model(config.model, merged(jax.device_get(params), frozen), tokenizer, str(workdir))


def _tokenizer(config: Config, workdir: Path) -> Tokenizer:
    """The tokenizer of the run in `workdir`; where that is gone, the copy that its corpus has."""
    folder, name = local_folder(workdir), config.data.hash
    gone = not exists(folder / filenames.TOKENIZER) and not tinypython.lies_in(folder)
    if gone and name is not None and exists(workdir / filenames.DATA / name):
        folder = workdir / filenames.DATA / name
    return load_tokenizer(folder / filenames.TOKENIZER)

"""A finished, or at least checkpointed, run read back from its workdir."""

import dataclasses
from pathlib import Path

import jax

from circuits_jax.config import Config
from circuits_jax.data.local import local_folder
from circuits_jax.data.tokenizer import Tokenizer, load_tokenizer
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.training.checkpoints import Checkpoints
from circuits_jax.training.optimizer import make_optimizer
from circuits_jax.training.state import make_init
from circuits_jax.training.workdir import load_config


@dataclasses.dataclass(frozen=True)
class Run:
    """What later experiments need of a training run.

    Attributes:
      config: The whole configuration.
      model: Its Transformer.
      params: The newest checkpoint's parameters, on the host.
      tokenizer: The tokenizer it was trained with.
    """

    config: Config
    model: Transformer
    params: Params
    tokenizer: Tokenizer


def load_run(workdir: Path) -> Run:
    """Reads the run in `workdir`.

    Raises:
      UserError: if there is no run, no checkpoint or no tokenizer, or one of them is damaged.
    """
    config = load_config(workdir)
    checkpoints = Checkpoints(workdir)
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])  # wherever it was saved from
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
        jax.eval_shape(make_init(config, make_optimizer(config))),
    )
    state = checkpoints.restore(like)
    checkpoints.close()
    tokenizer = load_tokenizer(local_folder(workdir) / "tokenizer.model")
    return Run(config, Transformer(config.model), jax.device_get(state.params), tokenizer)

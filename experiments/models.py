"""Opens the model that the command line names: a workdir of ours, a sparse folder, a released checkpoint."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from circuits_jax import released
from circuits_jax.circuits.ablation import Means, mean_activations
from circuits_jax.circuits.circuit import Circuit, load_circuit
from circuits_jax.data.tokenizer import Tokenizer
from circuits_jax.errors import CheckpointError, ConfigError
from circuits_jax.files import exists
from circuits_jax.model.fingerprint import model_hash
from circuits_jax.model.generate import check_prompt
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.training.run import Run, load_run
from experiments import common
from experiments.pretrain import prepare_corpus

_MODEL = flags.DEFINE_string(
    "model",
    None,
    "A workdir, a folder or file of a released checkpoint, or hf:owner/name; default: --workdir.",
)
_PROMPT = flags.DEFINE_string("prompt", None, "Text that the model reads.")
CIRCUIT = flags.DEFINE_string("circuit", None, "A circuit's folder.")
_TOKENS = flags.DEFINE_list("tokens", None, "Token ids that it reads instead of --prompt: 5,3,9.")


@dataclasses.dataclass(frozen=True)
class Opened:
    """A model, wherever it came from.

    Attributes:
      name: As on the command line.
      model, params: The network.
      tokenizer: None if none lies beside the weights.
      run: The training run, if it is a workdir of ours.
    """

    name: str
    model: Transformer
    params: Params
    tokenizer: Tokenizer | None
    run: Run | None

    @property
    def folder(self) -> Path:
        """Where an experiment writes: the model's own workdir, else --workdir."""
        return Path(self.name) if self.run is not None else common.workdir()

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """What tokens stand for, in quotes; `#5` where no tokenizer says."""
        known = 0 if self.tokenizer is None else self.tokenizer.vocab_size
        return [repr(self.tokenizer.pieces([i])[0]) if i < known else f"#{i}" for i in map(int, ids)]


def open_model(name: str | Path | None = None) -> Opened:
    """The model that `name`, or else --model, or else --workdir names.

    Raises:
      UserError: if there is none, or it cannot be read.
    """
    name = str(name or _MODEL.value or common.workdir())
    folder = Path(name)
    if exists(folder / "checkpoints"):
        run = load_run(folder)
        return Opened(name, run.model, run.params, run.tokenizer, run)
    if ":" not in name and not exists(folder):
        raise CheckpointError(
            f"there is no model {name}; name a workdir of experiments.pretrain or a released checkpoint"
        )
    found = released.load_any(name)
    return Opened(name, found.model, found.params, found.tokenizer, None)


def read_prompt(opened: Opened) -> list[int]:
    """The token ids of --prompt or --tokens.

    Raises:
      ConfigError: if there are none, both, too many, or ids that the model has not.
    """
    if (_PROMPT.value is None) == (_TOKENS.value is None):
        raise ConfigError("give a prompt: --prompt=TEXT or, as token ids, --tokens=5,3,9")
    if _TOKENS.value is not None:
        try:
            ids = [int(token) for token in _TOKENS.value]
        except ValueError as error:
            raise ConfigError(
                f"--tokens={','.join(_TOKENS.value)} holds something that is no number"
            ) from error
    elif opened.tokenizer is None:
        raise ConfigError(f"no tokenizer lies beside {opened.name}; give the prompt as ids, --tokens=5,3,9")
    else:
        ids = opened.tokenizer.encode(_PROMPT.value)
    check_prompt(ids, opened.model)
    return ids


def read_circuit(opened: Opened, folder: Path) -> Circuit:
    """The circuit in `folder`.

    Raises:
      CircuitError: if there is none, or it is not of this model.
    """
    circuit = load_circuit(folder)
    tokenizer = circuit.tokenizer_hash if opened.tokenizer is None else opened.tokenizer.hash
    circuit.check_model(model_hash(opened.model.config, opened.params), tokenizer)
    return circuit


def corpus_means(opened: Opened) -> Means:
    """Mean activations over the model's own corpus, the same windows as pruning takes.

    Raises:
      ConfigError: if no corpus lies beside the model.
    """
    if opened.run is None:
        raise ConfigError(
            f"no means are known for {opened.name}, which has no corpus; name a circuit whose means to use "
            "(--circuit), or ablate with :zero"
        )
    config, prune = opened.run.config, opened.run.config.prune
    windows = prepare_corpus(config, Path(opened.name)).train.tokens
    rows = prune.mean_batches * config.train.batch_size
    order = np.random.RandomState(prune.seed).permutation(len(windows))[:rows]
    tokens = windows[np.resize(order, rows), :-1].reshape(prune.mean_batches, config.train.batch_size, -1)
    return mean_activations(opened.model, opened.params, tokens)

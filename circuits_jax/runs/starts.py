"""What a run starts from in place of random parameters: a trained model, or a counted bigram table."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from circuits_jax.config import Config
from circuits_jax.data.bigram import count_bigrams
from circuits_jax.data.corpus import IMPORTED, Corpus
from circuits_jax.data.tokenizers.folder import load_released_tokenizer, save_released_tokenizer
from circuits_jax.model.model import Model
from circuits_jax.model.parameters import BIGRAM, trained_part
from circuits_jax.model.transformer import init_params
from circuits_jax.storage.errors import CheckpointError
from circuits_jax.storage.files import write_json
from circuits_jax.training.layout import check_start


def check_fits(start: Model, config: Config) -> None:
    """Raises CheckpointError unless the model has all parameters that `config` trains, in their shapes, and
    no others; says how to set it.
    """
    shapes = trained_part(config.model, jax.eval_shape(lambda: init_params(config.model, jax.random.key(0))))
    try:
        check_start({**dict.fromkeys(shapes, {}), **trained_part(config.model, start.params)}, shapes)
    except CheckpointError as error:
        settings = [
            f"--config.model.{name}={there}" for name, (there, _) in _differing(start, config).items()
        ]
        raise CheckpointError(
            f"train.start_from {start.source}: {error}, as by {' '.join(settings) or 'changing config.model'}"
        ) from error


def tell(start: Model, config: Config) -> str:
    """A line about the start, with the settings of the model that are other ones from now on."""
    line = f"start        the parameters of {start.source}"
    for name, (there, here) in _differing(start, config).items():
        line += f"; model.{name} was {there}, now {here}"
    if config.model.bigram == "counts" and start.config.has_bigram:
        line += "; its bigram table is left out, this run's corpus is counted"
    return line


def bring_tokenizer(start: Model, folder: Path, vocab_size: int) -> None:
    """Puts the model's tokenizer into a run's folder, so that the corpus is encoded with it.

    Raises:
      CheckpointError: if the model has none and `folder` neither, or `folder` has another one.
    """
    there = load_released_tokenizer(folder, vocab_size)
    if there is None and start.tokenizer is None:
        raise CheckpointError(
            f"no tokenizer lies beside {start.source}; put its tokenizer.model, or its encoder.json and "
            f"vocab.bpe, into {folder}"
        )
    if there is not None and start.tokenizer is not None and there.hash != start.tokenizer.hash:
        raise CheckpointError(
            f"{folder} holds another tokenizer than {start.source}, whose parameters mean nothing with it; "
            "choose another --workdir"
        )
    write_json(folder / IMPORTED, {"source": start.source})  # it may have fewer tokens than the model
    if there is None:
        save_released_tokenizer(start.tokenizer, folder)


def first_table(config: Config, corpus: Corpus) -> dict[str, Any] | None:
    """The bigram table that a learned one starts from, if it starts from the corpus' counts."""
    prior = config.train.bigram_prior
    if prior is None or config.model.bigram != "learned":
        return None
    return {BIGRAM: count_bigrams(corpus.train.tokens, config.model.vocab_size).logits(prior)}


def _differing(start: Model, config: Config) -> dict[str, tuple[Any, Any]]:
    """Settings of the model that differ: (there, here)."""
    there, here = dataclasses.asdict(start.config), dataclasses.asdict(config.model)
    return {name: (there[name], here[name]) for name in there if there[name] != here[name]}

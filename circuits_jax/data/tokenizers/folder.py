"""The tokenizer beside a checkpoint: found, read and written by its files' names."""

from pathlib import Path

from circuits_jax.data.tokenizers import tinypython
from circuits_jax.data.tokenizers.bpe import load_tokenizer
from circuits_jax.data.tokenizers.tinypython import ENCODER, MERGES, TinyPython
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.storage.errors import CheckpointError, ConfigError
from circuits_jax.storage.filenames import TOKENIZER

TOKENIZER_FILES = (ENCODER, MERGES, TOKENIZER)


def load_released_tokenizer(folder: Path, vocab_size: int) -> Tokenizer | None:
    """The tokenizer in `folder`: tinypython_2k, else SentencePiece, else None.

    Raises:
      CheckpointError: if its files are damaged, or it has more tokens than the model's `vocab_size`.
    """
    tokenizer: Tokenizer
    if tinypython.lies_in(folder):
        tokenizer = TinyPython(folder)
    elif (folder / TOKENIZER).is_file():
        tokenizer = _load_sentencepiece(folder / TOKENIZER)
    else:
        return None
    if tokenizer.vocab_size > vocab_size:
        raise CheckpointError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, the model {vocab_size}; "
            "they do not belong together"
        )
    return tokenizer


def save_released_tokenizer(tokenizer: Tokenizer | None, folder: Path) -> None:
    """Writes the tokenizer's files into `folder`, and removes those of another kind from it."""
    for name in TOKENIZER_FILES:
        (folder / name).unlink(missing_ok=True)
    if isinstance(tokenizer, TinyPython):
        tokenizer.save(folder)
    elif tokenizer is not None:
        tokenizer.save(folder / TOKENIZER)


def _load_sentencepiece(path: Path) -> Tokenizer:
    try:
        return load_tokenizer(path)
    except ConfigError as error:
        raise CheckpointError(str(error)) from error

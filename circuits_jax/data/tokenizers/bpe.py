"""Text to token ids and back, without losing a character.

SentencePiece BPE whose characters outside the vocabulary fall back to their UTF-8 bytes. No normalisation, no
added or removed spaces, so `decode(encode(text)) == text` for every string that UTF-8 can hold.
"""

import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import sentencepiece

from circuits_jax.data.tokenizers import tinypython
from circuits_jax.data.tokenizers.model_file import read_model
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.storage.cores import usable_cores
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.files import write_aside
from circuits_jax.storage.lfs import refuse_pointer
from circuits_jax.storage.paths import as_path

EOT = tinypython.EOT_TEXT
SPACE = "\u2581"  # what SentencePiece writes for a space, and so cannot itself stand in a text
CHUNK = 4096  # characters of one training sentence
CHARACTERS = 2**26  # more text does not change the merges of a small vocabulary


class SentencePieceTokenizer:
    """A `Tokenizer` over a trained SentencePiece model."""

    def __init__(self, model: bytes) -> None:
        """Args:
          model: Contents of a SentencePiece model file.

        Raises:
          ConfigError: if `model` is empty, cut short, or lacks bytes or an end-of-text piece.
        """
        read_model(model)  # SentencePiece itself reads some that are cut short
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.vocab_size: int = self._processor.vocab_size()
        self.eot: int = self._processor.eos_id()
        self.hash: str = hashlib.sha256(model).hexdigest()
        self._space_bytes = [self._processor.piece_to_id(f"<0x{byte:02X}>") for byte in SPACE.encode()]
        if self.eot < 0 or not all(map(self._processor.is_byte, self._space_bytes)):
            raise ConfigError("it has no end-of-text piece or no byte pieces")
        self._display = [self._piece(token) for token in range(self.vocab_size)]

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`."""
        first, *rest = (self._processor.encode(part) for part in text.split(SPACE))
        return first + [token for part in rest for token in (*self._space_bytes, *part)]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`[encode(text) for text in texts]`, on several threads."""
        encoded = self._processor.encode(list(texts), num_threads=usable_cores())
        return [self.encode(text) if SPACE in text else ids for text, ids in zip(texts, encoded, strict=True)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, without end-of-text and ids beyond the last."""
        return self._processor.decode([int(token) for token in ids if token < self.vocab_size])

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """What each token stands for: its text, `\\x0c` for a byte, `#2100` for an id beyond the last."""
        return [self._display[token] if token < self.vocab_size else f"#{token}" for token in ids]

    @property
    def model_file(self) -> bytes:
        """Contents of the model file."""
        return self._model

    def save(self, path: Path) -> None:
        """Writes the model file whole."""
        with write_aside(as_path(path)) as file:
            file.write(self._model)

    def _piece(self, token: int) -> str:
        piece = self._processor.id_to_piece(token)
        if self._processor.is_byte(token):
            return f"\\x{int(piece[3:5], 16):02x}"
        return piece.replace(SPACE, " ")


def train_sentencepiece(
    texts: Iterable[str], vocab_size: int, symbols: tuple[str, ...], characters: int = CHARACTERS
) -> SentencePieceTokenizer:
    """Learns a lossless BPE vocabulary; the same texts give the same model, byte for byte.

    Args:
      texts: The training texts.
      vocab_size: Pieces in all: 256 bytes, end-of-text, unknown (never used), `symbols`, characters, merges.
      symbols: Strings that are always one token of their own, the longest first where several fit.
      characters: How much of `texts` is read: whole texts, up to the one that reaches this number.

    Raises:
      ConfigError: if `texts` are empty or do not hold `vocab_size` pieces, or hold more characters; or for
        symbols that cannot be pieces.
    """
    if len({*symbols, "", EOT}) < len(symbols) + 2:
        raise ConfigError(
            f"data.symbols is {symbols}; its strings must differ, and none may be empty or {EOT!r}"
        )
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_chunks(_first(texts, characters)),
            model_writer=model,
            vocab_size=vocab_size,
            model_type="bpe",
            byte_fallback=True,
            character_coverage=0.9999,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            split_by_whitespace=True,
            split_digits=True,
            user_defined_symbols=[symbol.replace(" ", SPACE) for symbol in symbols],
            max_sentence_length=4 * CHUNK,  # in bytes
            unk_id=0,
            eos_id=1,
            bos_id=-1,
            pad_id=-1,
            eos_piece=EOT,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise _training_error(str(error), vocab_size) from error
    return SentencePieceTokenizer(model.getvalue())


def load_tokenizer(path: Path) -> Tokenizer:
    """The SentencePiece tokenizer saved at `path`, or else the pair of files of tinypython_2k beside it.

    Raises:
      ConfigError: if the file is missing, empty, cut short or not a lossless SentencePiece model.
      CheckpointError: if it is a Git LFS pointer, or the pair is damaged.
    """
    path = as_path(path)
    if not path.exists() and tinypython.lies_in(path.parent):
        return tinypython.TinyPython(path.parent)
    try:
        content = path.read_bytes()
        refuse_pointer(content, path)
        return SentencePieceTokenizer(content)
    except OSError as error:
        raise ConfigError(
            f"the tokenizer {path} cannot be read ({error.strerror or error}); put it back: the folder of "
            "the run's corpus has a copy"
        ) from error
    except (ConfigError, RuntimeError, UnicodeDecodeError) as error:  # the latter two are SentencePiece's own
        why = " ".join(str(error).split())
        raise ConfigError(
            f"the tokenizer {path} cannot be used: {why}; restore it: the folder of the run's corpus has a "
            "copy (a run that has not begun trains one anew when it is moved away)"
        ) from error


def _first(texts: Iterable[str], characters: int) -> Iterator[str]:
    """The first texts, until they hold `characters`."""
    for text in texts:
        yield text
        characters -= len(text)
        if characters <= 0:
            return


def _chunks(texts: Iterable[str]) -> Iterator[str]:
    """Cuts texts into pieces of at most CHUNK characters, at line ends where there are any."""
    for text in texts:
        start = 0
        while start < len(text):
            stop = min(start + CHUNK, len(text))
            if stop < len(text):
                stop = text.rfind("\n", start, stop) + 1 or stop
            yield text[start:stop]
            start = stop


def _training_error(message: str, vocab_size: int) -> ConfigError:
    """The trainer's complaint in our words."""
    if most := re.search(r"too high .* <= (\d+)", message):
        return ConfigError(
            f"model.vocab_size is {vocab_size}, too large for this corpus, which holds {most[1]} pieces; "
            f"set it to {most[1]} or less, or add files to data.roots"
        )
    if least := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return ConfigError(
            f"model.vocab_size is {vocab_size}, too small for this corpus, whose bytes and characters need "
            f"{least[1]}; set it to more than that"
        )
    if "sentences_.empty()" in message or "all_chars_count" in message:
        return ConfigError("there is no text to train a tokenizer on; name folders with code in data.roots")
    return ConfigError(f"SentencePiece cannot train a tokenizer with these settings: {message}")

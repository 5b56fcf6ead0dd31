"""What a SentencePiece model file says, read from its bytes.

The file is a protocol buffer, a `ModelProto` of sentencepiece_model.proto.  SentencePiece ships a module that
reads it, but one that is generated for one release of protobuf and refuses all older ones, such as those that
Colab and TensorFlow bring; so the few fields that matter are read here.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from circuits_jax.storage.errors import ConfigError

# Numbers of fields, and of the values of enums, in sentencepiece_model.proto.
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_TEXT, _SCORE, _KIND = 1, 2, 3
_MODEL_TYPE, _UNIGRAM, _BPE = 3, 1, 2
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

_Value = int | bytes


class Piece(NamedTuple):
    """One entry of the vocabulary: its text, its score and NORMAL, UNKNOWN, ... or BYTE."""

    text: str
    score: float
    kind: int


class ModelFile(NamedTuple):
    """A SentencePiece model: pieces by id, and whether they are joined by BPE merges."""

    pieces: tuple[Piece, ...]
    is_bpe: bool


def read_model(data: bytes) -> ModelFile:
    """Reads the contents of a model file.

    Raises:
      ConfigError: if it is empty, cut short or no SentencePiece model.
    """
    if not data:
        raise ConfigError("it is empty")
    try:
        fields = list(_fields(data))
        pieces = tuple(_piece(value) for number, value in fields if number == _PIECES)
        # Cut between two fields, a file can be read, but lacks what follows; this is the last that matters.
        if not any(number == _NORMALIZER for number, _ in fields):
            raise ValueError("no normalizer")
        trainer = dict(_fields(b"".join(_bytes(value) for number, value in fields if number == _TRAINER)))
    except (ValueError, IndexError, struct.error) as error:
        raise ConfigError("it is cut short or is not a SentencePiece model") from error
    return ModelFile(pieces, trainer.get(_MODEL_TYPE, _UNIGRAM) == _BPE)


def _piece(message: _Value) -> Piece:
    fields = dict(_fields(_bytes(message)))
    (score,) = struct.unpack("<f", _bytes(fields.get(_SCORE, bytes(4))))
    kind = fields.get(_KIND, NORMAL)
    if not isinstance(kind, int):
        raise ValueError("a piece of no kind")
    return Piece(_bytes(fields.get(_TEXT, b"")).decode("utf-8"), score, kind)


def _bytes(value: _Value) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes are due")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, _Value]]:
    """(number, value) of each field of a message: varints as int, all others as bytes.

    Raises:
      ValueError, IndexError: if it ends within a field, or has one of no known form.
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, form = key >> 3, key & 7
        if form == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if form == 2:
            size, at = _varint(data, at)
        elif form in (1, 5):
            size = 8 if form == 1 else 4
        else:
            raise ValueError(f"a field of form {form}")
        if at + size > len(data):
            raise ValueError("a field is cut short")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(the number of seven bits a byte, lowest first, that stands at `at`; where the next field begins)."""
    value = 0
    for i in range(10):
        byte = data[at + i]
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, at + i + 1
    raise ValueError("a number is too long")

"""SentencePiece model files are read as protobuf's own reader reads them, whatever else they hold."""

import contextlib
import io
import random
import struct

import pytest
import sentencepiece

from circuits_jax.data.tokenizers import model_file
from circuits_jax.data.tokenizers.model_file import read_model
from circuits_jax.storage.errors import ConfigError

TEXT = [" ".join(f"{word}{n % 7}" for n in range(40)) for word in ("alpha", "beta", "été", "x = 1", "\u2581")]


def trained(model_type: str, **settings) -> bytes:
    """A small model of `model_type`."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT), model_writer=out, model_type=model_type, minloglevel=2,
        hard_vocab_limit=False, **settings,
    )  # fmt: skip
    return out.getvalue()


BPE = trained("bpe", vocab_size=300, byte_fallback=True, user_defined_symbols=["def\u2581", "é"])


@pytest.mark.parametrize("data", [BPE, trained("unigram", vocab_size=40), trained("char", vocab_size=30)])
def test_pieces_are_those_that_sentencepiece_itself_tells(data):
    processor = sentencepiece.SentencePieceProcessor(model_proto=data)
    pieces = read_model(data).pieces
    assert len(pieces) == processor.vocab_size()
    for i, piece in enumerate(pieces):
        assert piece.text == processor.id_to_piece(i)
        assert piece.score == processor.get_score(i)
        assert (piece.kind == model_file.BYTE) == processor.is_byte(i)
        assert (piece.kind == model_file.UNKNOWN) == processor.is_unknown(i)
        assert (piece.kind == model_file.CONTROL) == processor.is_control(i)
    assert read_model(data).is_bpe == (data == BPE)


def test_symbols_of_the_user_are_told():
    kinds = {piece.text: piece.kind for piece in read_model(BPE).pieces}
    assert kinds["é"] == kinds["def\u2581"] == model_file.USER_DEFINED
    assert kinds["a"] == model_file.NORMAL


def test_fields_of_later_releases_are_passed_over():
    later = bytes([15 << 3 | 0, 0x96, 0x01, 14 << 3 | 5]) + struct.pack("<f", 2.5)
    later += bytes([13 << 3 | 1]) + bytes(8) + bytes([12 << 3 | 2, 3]) + b"abc"
    assert read_model(later + BPE + later) == read_model(BPE)


def test_no_piece_of_a_file_passes_for_the_whole():
    choose = random.Random(0)
    for cut in {*range(1, 200), *choose.choices(range(len(BPE)), k=300)}:
        try:
            found = read_model(BPE[:cut])
        except ConfigError as error:
            assert "cut short or is not" in str(error)
        else:  # only what follows the normalizer is lost
            assert found == read_model(BPE)


@pytest.mark.parametrize("seed", range(4))
def test_garbage_is_one_error(seed):
    choose = random.Random(seed)
    for _ in range(500):
        data = bytearray(BPE[: choose.randrange(1, 400)] if seed % 2 else choose.randbytes(60))
        for _ in range(3):
            data[choose.randrange(len(data))] = choose.randrange(256)
        with contextlib.suppress(ConfigError):  # and no other
            read_model(bytes(data))
    with pytest.raises(ConfigError, match="empty"):
        read_model(b"")

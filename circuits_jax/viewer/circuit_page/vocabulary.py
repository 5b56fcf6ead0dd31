"""A tokenizer as a page can run it (read by page/bpe.js)."""

import json
import re
import tempfile
from typing import Any

from circuits_jax.data.tokenizers import model_file
from circuits_jax.data.tokenizers.bpe import SentencePieceTokenizer
from circuits_jax.data.tokenizers.tinypython import ENCODER, PATTERN, TinyPython, byte_alphabet
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.storage.paths import as_path

MAX_PIECES = 16384

_MARKERS = ("<|startoftext|>", "<|endoftext|>")  # in the files of tinypython_2k, and in no text's encoding


def embed_vocabulary(tokenizer: Tokenizer) -> dict[str, Any] | None:
    """Pieces and merge scores for encoding typed text exactly as Python does.

    Returns:
      `pieces` (text by id, space as U+2581), `scores` (by id; a merge with a higher score comes first),
      `symbols` (ids that are never split nor merged), `bytes` (ids of the 256 bytes) and `eot`; for
      tinypython_2k `pieces` (for display), `ranked` (each token's bytes, a character a byte, by id and so in
      the order of merges) and `pattern` (what splits text, for JavaScript); or None for a tokenizer that is
      neither tinypython_2k nor a SentencePiece BPE of up to MAX_PIECES pieces.
    """
    if isinstance(tokenizer, TinyPython):
        return _ranked(tokenizer)
    if not isinstance(tokenizer, SentencePieceTokenizer) or tokenizer.vocab_size > MAX_PIECES:
        return None
    pieces, is_bpe = model_file.read_model(tokenizer.model_file)
    if not is_bpe:
        return None
    mergeable = (model_file.NORMAL, model_file.USER_DEFINED)
    return {
        "pieces": [piece.text if piece.kind in mergeable else None for piece in pieces],
        "scores": [_whole(piece.score) for piece in pieces],
        "symbols": [i for i, piece in enumerate(pieces) if piece.kind == model_file.USER_DEFINED],
        "bytes": [i for i, piece in enumerate(pieces) if piece.kind == model_file.BYTE],
        "unknown": next(i for i, piece in enumerate(pieces) if piece.kind == model_file.UNKNOWN),
        "eot": tokenizer.eot,
    }


def _ranked(tokenizer: TinyPython) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(as_path(folder))
        encoder = json.loads((as_path(folder) / ENCODER).read_bytes())
    alphabet = byte_alphabet()
    by_id = {token: text for text, token in encoder.items() if text not in _MARKERS}
    # White space is another set in JavaScript's \s.
    pattern = PATTERN.replace(r"\S", r"\P{White_Space}").replace(r"\s", r"\p{White_Space}")
    return {
        "pieces": tokenizer.pieces(range(tokenizer.vocab_size)),
        "ranked": ["".join(chr(alphabet[letter]) for letter in by_id[token]) for token in sorted(by_id)],
        "pattern": pattern,
    }


def display_text(piece: str) -> str:
    """What a displayed piece stands for in text: `\\\\x0c` for a single byte is that character."""
    return chr(int(piece[2:], 16)) if re.fullmatch(r"\\x[0-9a-f]{2}", piece) else piece


def _whole(score: float) -> float:
    """Scores are whole numbers; written so, they are half as long."""
    return int(score) if score == int(score) else score

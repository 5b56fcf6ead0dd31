"""A tokenizer without a model: a word with its leading space, a digit or a mark is one token."""

import re
import zlib

_PIECE = re.compile(r" ?[A-Za-z_]+| ?\d| ?[^\w\s]| +|\n", re.ASCII)


class WordTokenizer:
    """Ids are checksums of the pieces, so that they are the same everywhere."""

    eot = 0
    hash = "words"

    def __init__(self) -> None:
        self._known: dict[int, str] = {}

    def encode(self, text: str) -> list[int]:
        pieces = _PIECE.findall(text)
        assert "".join(pieces) == text, text
        ids = [zlib.crc32(piece.encode()) % 2**30 + 1 for piece in pieces]
        self._known |= dict(zip(ids, pieces, strict=True))
        return ids

    def decode(self, ids: list[int]) -> str:
        return "".join(self._known[token] for token in ids)

"""What the library asks of a tokenizer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Tokenizer(Protocol):
    """Text to token ids and back; `data.tokenizers` has two of them."""

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""

    @property
    def eot(self) -> int:
        """Id of the end-of-text token, which no text encodes to."""

    @property
    def hash(self) -> str:
        """SHA-256 of the model file, in hex."""

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`[encode(text) for text in texts]`, faster."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, without end-of-text and without ids that stand for nothing.

        A model may have more ids than its tokenizer: an embedding padded to a rounder number.
        """

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """What each token stands for, for display: its text, `\\x0c` for a byte, `#2100` for nothing."""

    def save(self, path: Path) -> None:
        """Writes the model file."""

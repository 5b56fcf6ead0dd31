"""The released tokenizer `tinypython_2k`, from its local files `encoder.json` and `vocab.bpe`.

Both are in the GPT-2 form: `vocab.bpe` lists the merges in order, `encoder.json` gives each token its
id, and every byte of a token is written as one printable character.  Splitting and merging are
tiktoken's, which the extra `[openai]` installs.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from circuits_jax.storage.cores import usable_cores
from circuits_jax.storage.errors import CheckpointError
from circuits_jax.storage.files import read_bytes, read_json, write_aside
from circuits_jax.storage.paths import as_path

ENCODER = "encoder.json"
MERGES = "vocab.bpe"
EOT_TEXT = "<|endoftext|>"
EOT = 2047
_START_TEXT = "<|startoftext|>"  # may be listed, and is no token of the encoding
# The released encoding's split pattern.
PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


class TinyPython:
    """A tiktoken encoding behind the `Tokenizer` protocol; any text comes back from its tokens unchanged.

    Args:
      folder: Where `encoder.json` and `vocab.bpe` lie.

    Raises:
      CheckpointError: if a file is missing or damaged, the two do not fit together, or tiktoken is not
        installed.
    """

    def __init__(self, folder: str | Path):
        folder = as_path(folder)
        self._files = {name: read_bytes(folder / name) for name in (ENCODER, MERGES)}
        encoder = read_json(folder / ENCODER)
        encoder.pop(_START_TEXT, None)
        self.eot: int = encoder.pop(EOT_TEXT, EOT)
        ranks = _ranks(encoder, self._files[MERGES], folder)
        if type(self.eot) is not int or self.eot < len(ranks):
            raise CheckpointError(f"{folder / ENCODER}: the id {self.eot!r} of {EOT_TEXT} is another token's")
        self.vocab_size = self.eot + 1
        self._texts = len(ranks)  # ids from here on, but for end-of-text, stand for nothing
        self.hash = hashlib.sha256(b"".join(self._files.values())).hexdigest()
        self._encoding = _tiktoken().Encoding(
            "tinypython", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={EOT_TEXT: self.eot}
        )

    def encode(self, text: str) -> list[int]:
        """The tokens of `text`; the end-of-text marker has no meaning in it."""
        return self._encoding.encode_ordinary(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`[encode(text) for text in texts]`, on several threads."""
        return self._encoding.encode_ordinary_batch(list(texts), num_threads=usable_cores())

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, without end-of-text and unused ids; bytes that are no UTF-8 become U+FFFD.

        Raises:
          ValueError: if an id is negative.
        """
        content = b"".join(self._bytes(token) for token in ids if token < self._texts)
        return content.decode("utf-8", errors="replace")

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text of each token by itself, bytes that are no UTF-8 as `\\xe2`; `#1999` for an unused id."""
        return [self._piece(token) for token in ids]

    def save(self, folder: str | Path) -> None:
        """Writes `encoder.json` and `vocab.bpe`, as they were read, into `folder`."""
        for name, content in self._files.items():
            with write_aside(as_path(folder) / name) as file:
                file.write(content)

    def _piece(self, token: int) -> str:
        if token >= self._texts and token != self.eot:
            return f"#{token}"
        return self._bytes(token).decode("utf-8", errors="backslashreplace")

    def _bytes(self, token: int) -> bytes:
        try:
            return self._encoding.decode_single_token_bytes(int(token))
        except (KeyError, OverflowError) as error:
            raise ValueError(f"token {token} is not in the vocabulary of tinypython_2k") from error


def lies_in(folder: Path) -> bool:
    """Whether `folder` holds a file of this tokenizer."""
    return any((folder / name).is_file() for name in (ENCODER, MERGES))


def byte_alphabet() -> dict[str, int]:
    """The character that stands for each byte in GPT-2's files: itself if it shows, else from U+0100 on."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + n): byte for n, byte in enumerate(hidden)}


def _ranks(encoder: dict[str, Any], merges: bytes, folder: Path) -> dict[bytes, int]:
    """The id of each token's bytes, which is also the order in which tokens are merged."""
    alphabet = byte_alphabet()
    try:
        ranks = {bytes(alphabet[char] for char in token): rank for token, rank in encoder.items()}
        lines = merges.decode("utf-8").split("\n")[1:]  # the first line is a version
        pairs = [line.split(" ") for line in lines if line]
        merged = [bytes(alphabet[char] for char in first + second) for first, second in pairs]
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: {ENCODER} and {MERGES} are not in the GPT-2 form ({error})"
        ) from error
    in_order = sorted(ranks, key=lambda token: ranks[token] if type(ranks[token]) is int else -1)
    if [ranks[token] for token in in_order] != list(range(len(ranks))):
        raise CheckpointError(f"{folder / ENCODER}: the ids are not 0 to {len(ranks) - 1}, each once")
    if set(in_order[:256]) != {bytes([byte]) for byte in range(256)} or in_order[256:] != merged:
        raise CheckpointError(f"{folder}: {ENCODER} and {MERGES} do not list the same tokens in one order")
    return ranks


def _tiktoken() -> Any:
    try:
        import tiktoken
    except ImportError as error:
        raise CheckpointError(
            "the tokenizer tinypython_2k needs tiktoken; pip install 'circuits_jax[openai]'"
        ) from error
    return tiktoken

"""Token lists packed once into windows on disk.

N windows, T = n_ctx + 1 tokens of a window (inputs and targets overlap by n_ctx)."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.files import write_aside


@dataclasses.dataclass(frozen=True)
class Windows:
    """One split, cut into windows.

    Attributes:
      tokens: int32 [N, T], usually mapped from a file.
      counts: What the windows were made of: `files`, `bytes` and `tokens` of code, and how many windows of
        generated programs were mixed in: `generated` in all, `generated_distinct` different ones.
    """

    tokens: np.ndarray
    counts: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def n_ctx(self) -> int:
        """Tokens the model reads of a window."""
        return self.tokens.shape[1] - 1


def pack(documents: Iterable[Sequence[int]], eot: int, n_ctx: int) -> np.ndarray:
    """Joins documents, an `eot` after each, and cuts the row into windows.

    Empty documents are left out; so is what remains at the end of the row.

    Returns:
      int32 [N, n_ctx + 1], in the order of `documents`; N may be 0.
    """
    parts = [
        np.append(np.asarray(document, np.int32), np.int32(eot)) for document in documents if len(document)
    ]
    row = np.concatenate(parts) if parts else np.zeros(0, np.int32)
    count = len(row) // (n_ctx + 1)
    return row[: count * (n_ctx + 1)].reshape(count, n_ctx + 1)


def mix(windows: np.ndarray, generated: np.ndarray, share: float) -> np.ndarray:
    """Adds generated windows, as many as make up `share` of the result; too few are repeated in turn.

    Args:
      windows: int32 [N, T].
      generated: int32 [M, T], M > 0.
      share: Of the result's rows, in [0, 1), met to the nearest row.

    Returns:
      int32 [N + round(N share / (1 - share)), T], all of `windows` first.
    """
    count = round(len(windows) * share / (1 - share))
    return np.concatenate([windows, generated[np.arange(count) % len(generated)]])


def check_windows(windows: np.ndarray, split: str, n_ctx: int, tokens: int) -> None:
    """Raises ConfigError if `split`, of `tokens` tokens, holds not a single window."""
    if not len(windows):
        raise ConfigError(
            f"the {split} split holds {tokens} tokens, fewer than one window of model.n_ctx + 1 = "
            f"{n_ctx + 1}; lower model.n_ctx or add files to data.roots"
        )


def save_windows(path: Path, windows: Windows) -> None:
    """Writes `path`.npy and then `path`.json, which says that the former is complete."""
    tokens = np.ascontiguousarray(windows.tokens, np.int32)
    with write_aside(path.with_suffix(".npy")) as file:
        np.save(file, tokens)
    sidecar = {"shape": tokens.shape, "counts": dict(windows.counts)}
    with write_aside(path.with_suffix(".json")) as file:
        file.write(json.dumps(sidecar).encode())


def load_windows(path: Path) -> Windows | None:
    """Maps what `save_windows` wrote, or None if it is missing or damaged and so must be made again."""
    try:
        sidecar = json.loads(path.with_suffix(".json").read_bytes())
        tokens = np.load(path.with_suffix(".npy"), mmap_mode="r")
        counts, shape = sidecar["counts"], tuple(sidecar["shape"])
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None
    return Windows(tokens, counts) if tokens.shape == shape else None


def windows_name(split: str, identity: Any) -> str:
    """A file name that differs where `identity` (JSON values) does, so that no stale file is ever reused."""
    return f"{split}-{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]}"

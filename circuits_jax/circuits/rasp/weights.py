"""Compiled weights as files: what tracr made of a program, and what its network answered.

Letters in shapes: L layers, D channels of the residual stream, K channels of a head (tracr's key size),
H heads, M neurons, V tokens with the beginning mark and padding, T positions with the mark, O output rows.
"""

import dataclasses
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from circuits_jax.circuits.rasp.programs import PROGRAMS, check_fits
from circuits_jax.storage.errors import ConfigError, UserError
from circuits_jax.storage.files import write_aside
from circuits_jax.storage.lfs import refuse_pointer_file

_SHIPPED = Path(__file__).parent / "shipped"
# What a file that is cut short or altered may raise, by where it was hurt.
_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    zipfile.BadZipFile,
    zlib.error,
)
_MATRICES = ("query", "key", "value", "attention_out", "mlp_in", "mlp_out")


@dataclasses.dataclass(frozen=True)
class CompiledHalf:
    """One compiled program: the asked one, or the one beside it.

    Attributes:
      heads: H.
      embedding: [V, D].
      positions: [T, D].
      kernels: {query, key, value: [L, D, H * K]; attention_out: [L, H * K, D]; mlp_in: [L, D, M];
        mlp_out: [L, M, D]}, all float32.
      biases: Of the same names, [L, outputs].
      readout: [D, O], the projection to the output.
      outputs: What its O rows stand for; () where the output is one number.
      residuals: [R, T, D], tracr's final residual stream on the recorded inputs.
    """

    heads: int
    embedding: np.ndarray
    positions: np.ndarray
    kernels: Mapping[str, np.ndarray]
    biases: Mapping[str, np.ndarray]
    readout: np.ndarray
    outputs: tuple[Any, ...]
    residuals: np.ndarray

    @property
    def head_size(self) -> int:
        """K."""
        return self.kernels["query"].shape[2] // self.heads


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A program's two halves, and the inputs that are asked about.

    Attributes:
      name, asks, position, answers, causal: Of the RaspProgram.
      tokens: What the V ids stand for.
      asked, beside: The two compiled programs.
      inputs: int32 [N, T], every input whose output is one of the two answers.
      right: int [N], which one, as the RASP interpreter says: 0 or 1.
      recorded: int32 [R, T], the inputs that `CompiledHalf.residuals` are of.
    """

    name: str
    asks: str
    position: int
    answers: tuple[float, float]
    causal: bool
    tokens: tuple[Any, ...]
    asked: CompiledHalf
    beside: CompiledHalf
    inputs: np.ndarray
    right: np.ndarray
    recorded: np.ndarray

    def __post_init__(self) -> None:
        check_fits(self.name, self.inputs.shape[1], len(self.asked.positions))


_FACTS = ("name", "asks", "position", "answers", "causal", "tokens")
_ARRAYS = ("inputs", "right", "recorded")


def save(compiled: Compiled, path: Path) -> None:
    """Writes a compressed npz file, whole or not at all."""
    arrays = {name: getattr(compiled, name) for name in _ARRAYS}
    facts = {name: getattr(compiled, name) for name in _FACTS}
    for which in ("asked", "beside"):
        half: CompiledHalf = getattr(compiled, which)
        facts[which] = {"heads": half.heads, "outputs": half.outputs}
        for name in ("embedding", "positions", "readout", "residuals"):
            arrays[f"{which}/{name}"] = getattr(half, name)
        for name in _MATRICES:
            arrays[f"{which}/{name}/kernel"] = half.kernels[name]
            arrays[f"{which}/{name}/bias"] = half.biases[name]
    with write_aside(path) as file:
        np.savez_compressed(file, facts=np.array(json.dumps(facts)), **arrays)


def load(name: str, folder: Path = _SHIPPED) -> Compiled:
    """The compiled program `name`.

    Args:
      name: Of PROGRAMS.
      folder: Where `save` put it; by default what comes with the library.

    Raises:
      ConfigError: if there is no such program.
      UserError: if the file cannot be read, or is a Git LFS pointer.
    """
    path = folder / f"{name}.npz"
    if not path.exists():
        raise ConfigError(f"there is no compiled program {name!r}; choose of {', '.join(PROGRAMS)}")
    refuse_pointer_file(path)
    try:
        with np.load(path) as file:
            return _built({key: file[key] for key in file.files})
    except _DAMAGED as error:
        raise UserError(f"{path} is no compiled program ({error}); compile it anew") from error


def _built(arrays: dict[str, np.ndarray]) -> Compiled:
    facts = json.loads(str(arrays["facts"]))
    halves = {
        which: CompiledHalf(
            heads=facts[which]["heads"],
            outputs=tuple(facts[which]["outputs"]),
            kernels={name: arrays[f"{which}/{name}/kernel"] for name in _MATRICES},
            biases={name: arrays[f"{which}/{name}/bias"] for name in _MATRICES},
            **{
                name: arrays[f"{which}/{name}"] for name in ("embedding", "positions", "readout", "residuals")
            },
        )
        for which in ("asked", "beside")
    }
    given: dict[str, Any] = {name: facts[name] for name in _FACTS}
    given |= {"answers": tuple(facts["answers"]), "tokens": tuple(facts["tokens"])}
    return Compiled(**given | halves | {name: arrays[name] for name in _ARRAYS})

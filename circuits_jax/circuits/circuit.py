"""A circuit as data: nodes, edges, means, calibration, figures and where it came from.

A circuit saves to a folder of two files, `circuit.json` (a versioned manifest) and
`circuit.safetensors` (arrays), and loads without importing JAX.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from circuits_jax.errors import CircuitError
from circuits_jax.files import write_aside, write_json

FORMAT = "circuits_jax.circuit"
VERSION = 1
MANIFEST, TENSORS = "circuit.json", "circuit.safetensors"


class Node(NamedTuple):
    """One index at one node site, such as ("1.mlp.post_act", 407)."""

    site: str
    index: int

    def __str__(self) -> str:
        return f"{self.site}.{self.index}"


class Edge(NamedTuple):
    """A nonzero weight between two kept nodes, which are given by their place in `Circuit.nodes`."""

    source: int
    target: int
    weight: float


class Entry(NamedTuple):
    """A nonzero embedding or unembedding weight between a token and a residual channel."""

    token: int
    channel: int
    weight: float


@dataclasses.dataclass(frozen=True)
class Calibration:
    """d -> scale * d + shift on the two answers' logit difference, by pair role (METHOD 6, step 5)."""

    scale: float
    shift: float


@dataclasses.dataclass(frozen=True)
class Circuit:
    """The part of a model that solves one task (METHOD sections 4 and 6).

    Attributes:
      task: The task's name.
      nodes: Kept nodes, in forward order of their sites.
      edges: Nonzero weights between kept nodes.
      bias_only: For each node, whether nothing that depends on the prompt reaches it.
      means: {node site: float32 [width]}, what removed nodes are held at.
      ablation: How `means` were made: "mean" over the corpus, or "zero".
      embedding: Token embedding entries into channels that a kept node reads.
      unembedding: Unembedding entries of the task's answer tokens, from channels that a kept node writes.
      calibration: Fitted on training pairs.
      metrics: Figures by name, such as "heldout/calibrated_loss" and "full/heldout/accuracy".
      model_config: The model's configuration as a dict.
      model_hash, tokenizer_hash: What the circuit belongs to.
      provenance: How it was made: the pruning configuration, versions, flags.
    """

    task: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    bias_only: tuple[bool, ...]
    means: Mapping[str, np.ndarray]
    ablation: str
    embedding: tuple[Entry, ...]
    unembedding: tuple[Entry, ...]
    calibration: Calibration
    metrics: Mapping[str, float]
    model_config: Mapping[str, Any]
    model_hash: str
    tokenizer_hash: str
    provenance: Mapping[str, Any]

    def masks(self) -> dict[str, np.ndarray]:
        """{node site: float32 [width], 1 on kept nodes and 0 elsewhere}."""
        masks = {site: np.zeros(len(mean), np.float32) for site, mean in self.means.items()}
        for node in self.nodes:
            masks[node.site][node.index] = 1
        return masks

    def save(self, folder: Path) -> None:
        """Writes the two files, each aside and then renamed; the manifest, last, names the other's hash."""
        tensors = save_tensors(self._tensors())
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "task": self.task,
            "nodes": [list(node) for node in self.nodes],
            "bias_only": list(self.bias_only),
            "ablation": self.ablation,
            "calibration": dataclasses.asdict(self.calibration),
            "metrics": dict(self.metrics),
            "model": {"config": dict(self.model_config), "hash": self.model_hash},
            "tokenizer_hash": self.tokenizer_hash,
            "provenance": dict(self.provenance),
            "tensors": {"file": TENSORS, "sha256": hashlib.sha256(tensors).hexdigest()},
        }
        with write_aside(folder / TENSORS) as file:
            file.write(tensors)
        write_json(folder / MANIFEST, manifest)

    def check_model(self, model_hash: str, tokenizer_hash: str) -> None:
        """Raises CircuitError unless the circuit was cut from this model, with this tokenizer."""
        for what, ours, theirs in (
            ("model", self.model_hash, model_hash),
            ("tokenizer", self.tokenizer_hash, tokenizer_hash),
        ):
            if ours != theirs:
                raise CircuitError(
                    f"the circuit for {self.task} belongs to {what} {ours[:12]}, not to {theirs[:12]}; "
                    "prune again with this model"
                )

    def _tensors(self) -> dict[str, np.ndarray]:
        arrays = {f"mean/{site}": np.asarray(mean, np.float32) for site, mean in self.means.items()}
        for name in ("edges", "embedding", "unembedding"):
            rows = getattr(self, name)
            pairs = np.array([row[:2] for row in rows], np.int32).reshape(-1, 2)
            arrays[f"{name}/ends"] = pairs
            arrays[f"{name}/weights"] = np.array([row[2] for row in rows], np.float32)
        return arrays


def load_circuit(folder: Path) -> Circuit:
    """Reads what `Circuit.save` wrote; needs numpy and safetensors only.

    Raises:
      CircuitError: if a file is missing, cut short, altered, or of an unknown version.
    """
    folder = Path(folder)
    manifest = _read_manifest(folder / MANIFEST)
    arrays = _read_tensors(folder / str(manifest["tensors"]["file"]), manifest["tensors"]["sha256"])
    try:
        circuit = Circuit(
            task=manifest["task"],
            nodes=tuple(Node(site, index) for site, index in manifest["nodes"]),
            edges=_rows(Edge, arrays, "edges"),
            bias_only=tuple(manifest["bias_only"]),
            means={name[5:]: mean for name, mean in arrays.items() if name.startswith("mean/")},
            ablation=manifest["ablation"],
            embedding=_rows(Entry, arrays, "embedding"),
            unembedding=_rows(Entry, arrays, "unembedding"),
            calibration=Calibration(**manifest["calibration"]),
            metrics=manifest["metrics"],
            model_config=manifest["model"]["config"],
            model_hash=manifest["model"]["hash"],
            tokenizer_hash=manifest["tokenizer_hash"],
            provenance=manifest["provenance"],
        )
        circuit.masks()
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise CircuitError(
            f"{folder / MANIFEST} lacks something or does not fit its arrays ({error}); prune again"
        ) from error
    if len(circuit.bias_only) != len(circuit.nodes):
        raise CircuitError(f"{folder / MANIFEST} does not say of every node if it is bias-only; prune again")
    return circuit


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text())
    except OSError as error:
        raise CircuitError(f"cannot read the circuit {path}: {error.strerror}") from error
    except ValueError as error:
        raise CircuitError(f"{path} is cut short or not JSON ({error}); prune again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CircuitError(f"{path} is not a circuit of circuits_jax (no format {FORMAT!r})")
    if manifest.get("version") != VERSION:
        raise CircuitError(
            f"{path} is of version {manifest.get('version')}; this release reads version {VERSION}"
        )
    tensors = manifest.get("tensors")
    if not isinstance(tensors, dict) or not {"file", "sha256"} <= set(tensors):
        raise CircuitError(f"{path} does not name its tensors file; prune again")
    return manifest


def _read_tensors(path: Path, sha256: str) -> dict[str, np.ndarray]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CircuitError(f"cannot read the circuit's arrays {path}: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise CircuitError(f"{path} is cut short, altered or of another circuit; prune again")
    try:
        return load_tensors(content)
    except SafetensorError as error:
        raise CircuitError(f"{path} is not a safetensors file ({error}); prune again") from error


def _rows(kind: type, arrays: Mapping[str, np.ndarray], name: str) -> tuple[Any, ...]:
    ends, weights = arrays[f"{name}/ends"].tolist(), arrays[f"{name}/weights"].tolist()
    return tuple(kind(*pair, weight) for pair, weight in zip(ends, weights, strict=True))

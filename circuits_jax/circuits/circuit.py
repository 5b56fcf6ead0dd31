"""A circuit as data: nodes, edges, means, calibration, figures and where it came from.

A circuit saves to a folder of two files, `circuit.json` (a versioned manifest) and
`circuit.safetensors` (arrays), and loads without importing JAX.
"""

import dataclasses
import hashlib
import html
import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from circuits_jax.circuits.provenance import check_figures, check_provenance, check_texts
from circuits_jax.model.sites import may_have_nodes
from circuits_jax.storage.errors import CircuitError
from circuits_jax.storage.files import write_aside, write_json
from circuits_jax.storage.lfs import refuse_pointer
from circuits_jax.storage.paths import as_path
from circuits_jax.storage.stopping import held

FORMAT = "circuits_jax.circuit"
# Version 1 had every nonzero weight between kept nodes as an edge, and no importance.
VERSION, VERSIONS = 2, (1, 2)
MANIFEST, TENSORS = "circuit.json", "circuit.safetensors"
# Fields of Importance that are an array each, and those that are one array a node site.
_DELTAS, _ESTIMATES = ("node_deltas", "edge_deltas"), ("attribution", "exact")


class Node(NamedTuple):
    """One index at one node site, such as ("1.mlp.post_act", 407)."""

    site: str
    index: int  # type: ignore[assignment]  # hides tuple.index, which no node needs

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
    """d -> scale * d + shift on the two answers' logit difference, by pair role.

    See docs/method.md, "Calibration".
    """

    scale: float
    shift: float


@dataclasses.dataclass(frozen=True)
class Importance:
    """What each part of a circuit, and of its full model, is worth to the task (docs/method.md, "Audit").

    A delta is the rise of the task loss, in nats, when one part is removed and nothing else is changed.  The
    loss is that of the first `pairs` training pairs, calibrated as the network was before the removal.

    Attributes:
      node_deltas: float32 [nodes], of the circuit's nodes, in the circuit.
      edge_deltas: float32 [edges], of the circuit's edges, in the circuit.
      attribution: {node site: float32 [width]}, the first-order estimate of the delta of every node of the
        full model, in the full model.
      exact: {node site: float32 [width]}, their deltas, NaN where they were not measured.
      correlation: Of `attribution` with `exact` where measured: "nodes" (how many), and "pearson" and
        "spearman" where they are defined.
      pairs: Training pairs that the losses are averaged over.
    """

    node_deltas: np.ndarray
    edge_deltas: np.ndarray
    attribution: Mapping[str, np.ndarray]
    exact: Mapping[str, np.ndarray]
    correlation: Mapping[str, float]
    pairs: int


@dataclasses.dataclass(frozen=True, repr=False)
class Circuit:
    """The part of a model that solves one task (docs/method.md, "Nodes and edges").

    Attributes:
      task: The task's name.
      nodes: Kept nodes, in forward order of their sites.
      edges: Kept edges, nonzero weights between kept nodes.  The other nonzero weights between kept nodes
        are removed: they contribute weight x mean of what they carry (`ablation.edge_removal.remove_edges`).
      bias_only: For each node, whether nothing that depends on the prompt reaches it.
      means: {node site: float32 [width]}, what removed nodes are held at; and for each `attn.y`, what removed
        edges from v channels carry (absent in version 1, which has no removed edges).  Where `final_resid` is
        among them it is a node site too: what is not kept there is removed.
      ablation: What it was found under, of `config.ABLATIONS`.  Under "resample" and "counterfactual" removed
        parts take their values from another prompt, and `means`, those over the corpus, only stand in where a
        prompt is run by itself; figures and calibration are of the circuit's own ablation.
      embedding: Token embedding entries into channels that a kept node reads.
      unembedding: Unembedding entries of the task's answer tokens, from channels that a kept node writes.
      calibration: Fitted on training pairs.
      metrics: Figures by name, such as "test/calibrated_loss" and "full/test/accuracy".
      model_config: The model's configuration as a dict.
      model_hash, tokenizer_hash: What the circuit belongs to.
      provenance: How it was made: the pruning configuration, versions, flags.
      importance: Of its nodes and edges, if it was measured.
      taus: {node site: float32 [width]}, the learnt parameter of every node's mask, the largest the most
        wanted; None in circuits that were not learnt here, or before they were kept.
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
    importance: Importance | None = None
    taus: Mapping[str, np.ndarray] | None = None

    def __str__(self) -> str:
        """Its size and its loss on test pairs, calibrated, beside the full model's."""
        figures = self.metrics
        line = f"{len(self.nodes)} nodes, {len(self.edges)} edges"
        if "test/calibrated_loss" in figures:
            line += f", test loss {figures['test/calibrated_loss']:.3f}"
        if "full/test/loss" in figures:
            line += f" (model {figures['full/test/loss']:.3f})"
        line += f", under {self.ablation} ablation"
        line += ", misses its target" if self.provenance.get("met_target") is False else ""
        line += " by so much that its search was given up" if self.provenance.get("given_up") else ""
        if self.of_two_splits:
            line += ", chosen by its test pairs: needs a new audit"
        return line

    def __repr__(self) -> str:
        return f"Circuit({self.task}: {self})"

    def _repr_html_(self) -> str:
        heads: dict[str, Any] = {"task": self.task, "nodes": len(self.nodes), "edges": len(self.edges)}
        missed = {"target": "missed"} if self.provenance.get("met_target") is False else {}
        names = {
            "test loss, calibrated": "test/calibrated_loss",
            "test accuracy, calibrated": "test/calibrated_accuracy",
            "test accuracy": "test/accuracy",
            "model's test loss": "full/test/loss",
            "model's test accuracy": "full/test/accuracy",
        }
        figures = {name: f"{self.metrics[key]:.3f}" for name, key in names.items() if key in self.metrics}
        sites = dict.fromkeys(node.site for node in self.nodes)
        where = {site: ", ".join(str(n.index) for n in self.nodes if n.site == site) for site in sites}
        rows = "".join(
            f"<tr><th>{html.escape(str(name))}</th><td>{html.escape(str(value))}</td></tr>"
            for name, value in {**heads, "ablation": self.ablation, **missed, **figures, **where}.items()
        )
        return f"<table><caption>Circuit of {html.escape(self.task)}</caption>{rows}</table>"

    @property
    def of_two_splits(self) -> bool:
        """Whether it was cut before there were pairs to choose by: it was chosen by those that it reports."""
        prune = self.provenance.get("prune")
        return isinstance(prune, Mapping) and "heldout_pairs" in prune

    def masks(self) -> dict[str, np.ndarray]:
        """{node site: float32 [width], 1 on kept nodes and 0 elsewhere}."""
        masks = {
            site: np.zeros(len(mean), np.float32) for site, mean in self.means.items() if may_have_nodes(site)
        }
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
            "importance": None
            if self.importance is None
            else {"pairs": self.importance.pairs, "correlation": dict(self.importance.correlation)},
            "tensors": {"file": TENSORS, "sha256": hashlib.sha256(tensors).hexdigest()},
        }
        with held():  # one without the other would be no circuit
            with write_aside(folder / TENSORS) as file:
                file.write(tensors)
            write_json(folder / MANIFEST, manifest)

    @property
    def identity(self) -> tuple[Any, ...]:
        """What tells two circuits of a task apart."""
        return self.model_hash, self.ablation, self.nodes, tuple(edge[:2] for edge in self.edges)

    @property
    def digest(self) -> str:
        """Eight letters and digits that tell it from others of its task, for a file's name."""
        model, ablation, nodes, edges = self.identity
        parts = [model, ablation, *map(str, nodes), *(f"{source} {target}" for source, target in edges)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]

    def check_model(self, model_hash: str, tokenizer_hash: str) -> None:
        """Raises CircuitError unless the circuit was cut from this model, with this tokenizer."""
        for what, ours, theirs in (
            ("model", self.model_hash, model_hash),
            ("tokenizer", self.tokenizer_hash, tokenizer_hash),
        ):
            if ours != theirs:
                raise CircuitError(
                    f"this circuit of {self.task} belongs to {what} {ours[:12]}, not to {theirs[:12]}; "
                    "prune again with this model"
                )

    def _tensors(self) -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {
            f"mean/{site}": np.asarray(mean, np.float32) for site, mean in self.means.items()
        }
        for name in ("edges", "embedding", "unembedding"):
            rows = getattr(self, name)
            arrays[f"{name}/ends"] = np.array([row[:2] for row in rows], np.int32).reshape(-1, 2)
            arrays[f"{name}/weights"] = np.array([row[2] for row in rows], np.float32)
        for site, tau in (self.taus or {}).items():
            arrays[f"tau/{site}"] = np.asarray(tau, np.float32)
        if self.importance is not None:
            for name in _DELTAS:
                arrays[f"importance/{name}"] = np.asarray(getattr(self.importance, name), np.float32)
            for name in _ESTIMATES:
                for site, values in getattr(self.importance, name).items():
                    arrays[f"{name}/{site}"] = np.asarray(values, np.float32)
        return arrays


def load_circuit(folder: Path) -> Circuit:
    """Reads what `Circuit.save` wrote; needs numpy and safetensors only.

    Raises:
      CircuitError: if a file is missing, cut short, altered, or of an unknown version.
    """
    folder = as_path(folder)
    manifest = _read_manifest(folder / MANIFEST)
    arrays = _read_tensors(folder / str(manifest["tensors"]["file"]), manifest["tensors"]["sha256"])
    try:
        check_texts(manifest)
        check_provenance(manifest["provenance"])
        circuit = Circuit(
            task=manifest["task"],
            nodes=tuple(Node(site, index) for site, index in manifest["nodes"]),
            edges=_rows(Edge, arrays, "edges"),
            bias_only=tuple(manifest["bias_only"]),
            means=_by_site(arrays, "mean"),
            ablation=manifest["ablation"],
            embedding=_rows(Entry, arrays, "embedding"),
            unembedding=_rows(Entry, arrays, "unembedding"),
            calibration=Calibration(**_with_nan(manifest["calibration"])),
            metrics=_named_today(manifest["metrics"]),
            model_config=manifest["model"]["config"],
            model_hash=manifest["model"]["hash"],
            tokenizer_hash=manifest["tokenizer_hash"],
            provenance=manifest["provenance"],
            importance=_importance(manifest, arrays),
            taus=_by_site(arrays, "tau") or None,
        )
        _check_places(circuit)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise CircuitError(
            f"{folder / MANIFEST} lacks something or does not fit its arrays ({error}); prune again"
        ) from error
    return circuit


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
        refuse_pointer(content, path, CircuitError)
        manifest = json.loads(content.decode("utf-8-sig"))
    except CircuitError:
        raise
    except OSError as error:
        raise CircuitError(f"cannot read the circuit {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CircuitError(f"{path} is cut short or not JSON ({error}); prune again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CircuitError(f"{path} is not a circuit of circuits_jax (no format {FORMAT!r})")
    if manifest.get("version") not in VERSIONS:
        raise CircuitError(
            f"{path} is of version {manifest.get('version')}; this release reads versions 1 to {VERSION}"
        )
    tensors = manifest.get("tensors")
    if (
        not isinstance(tensors, dict)
        or not {"file", "sha256"} <= set(tensors)
        or PurePath(file := str(tensors["file"])).name != file
        or "\0" in file
    ):
        raise CircuitError(f"{path} does not name its tensors file; prune again")
    return manifest


def _read_tensors(path: Path, sha256: str) -> dict[str, np.ndarray]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CircuitError(f"cannot read the circuit's arrays {path}: {error.strerror}") from error
    refuse_pointer(content, path, CircuitError)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise CircuitError(f"{path} is cut short, altered or of another circuit; prune again")
    try:
        return load_tensors(content)
    except SafetensorError as error:
        raise CircuitError(f"{path} is not a safetensors file ({error}); prune again") from error


def _with_nan(values: Mapping[str, float | None]) -> dict[str, float]:
    """Figures with NaN again for null, which they are written as where they are no numbers."""
    return {name: float("nan") if value is None else value for name, value in values.items()}


def _named_today(metrics: Any) -> Any:
    """Figures by their names of today: test pairs were called held-out when there were two splits."""
    if not isinstance(metrics, dict):
        return metrics  # `_check_places` says so
    return {
        name.replace("heldout/", "test/", 1)
        if name.startswith(("heldout/", "full/heldout/"))
        else name: value
        for name, value in _with_nan(metrics).items()
    }


def _rows(kind: type, arrays: Mapping[str, np.ndarray], name: str) -> tuple[Any, ...]:
    ends, weights = arrays[f"{name}/ends"].tolist(), arrays[f"{name}/weights"].tolist()
    return tuple(kind(*pair, weight) for pair, weight in zip(ends, weights, strict=True))


def _by_site(arrays: Mapping[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    prefix = f"{kind}/"
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _importance(manifest: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Importance | None:
    if manifest["version"] == 1 or manifest["importance"] is None:
        return None
    stored: dict[str, Any] = {name: arrays[f"importance/{name}"] for name in _DELTAS}
    stored.update({name: _by_site(arrays, name) for name in _ESTIMATES})
    about = manifest["importance"]
    return Importance(correlation=_with_nan(about["correlation"]), pairs=about["pairs"], **stored)


def _check_places(circuit: Circuit) -> None:
    """Raises what `load_circuit` reports unless nodes, edges and what is said of them belong together."""
    for name in ("metrics", "model_config"):
        if not isinstance(getattr(circuit, name), dict):
            raise ValueError(f"its {name} is no object")
    check_figures(circuit.metrics, circuit.model_config)
    count = len(circuit.nodes)
    if any(type(node.index) is not int or node.index < 0 for node in circuit.nodes):
        raise ValueError("a node's index is not 0 or a greater integer")
    if len(set(circuit.nodes)) < count:
        raise ValueError("a node is there twice")
    masks = circuit.masks()
    if circuit.taus and {s: len(t) for s, t in circuit.taus.items()} != {s: len(m) for s, m in masks.items()}:
        raise ValueError("its taus are not of its node sites")
    if len(circuit.bias_only) != count:
        raise ValueError("it does not say of every node if it is bias-only")
    if any(not 0 <= end < count for edge in circuit.edges for end in edge[:2]):
        raise ValueError("an edge ends at a node that is not there")
    found = circuit.importance
    if found and (len(found.node_deltas), len(found.edge_deltas)) != (count, len(circuit.edges)):
        raise ValueError("it does not give the importance of every node and edge")

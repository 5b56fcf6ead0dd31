"""Circuits that openai/circuit_sparsity published, from its `viz_data.pt` (schema: `released/README.md`).

Its task losses are stored doubled: a pair's two sides are summed, not averaged.  All of them are halved on
the way in: `loss`, `interv_loss`, `ch_interv_losses`, `layer_interv_losses`, `loc_interv_losses`, `pair_data`
and `all_loss`.
"""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.edge_removal import without_edges
from circuits_jax.circuits.ablation.means import reference_sites
from circuits_jax.circuits.circuit import Calibration, Circuit, Edge, Importance, Node
from circuits_jax.config import ModelConfig, PruneConfig, from_dict, to_dict
from circuits_jax.model import sites
from circuits_jax.model.model import Model
from circuits_jax.model.wiring import wires
from circuits_jax.released.config import config_from_released
from circuits_jax.released.listing import as_json, listed, plain, sketch
from circuits_jax.released.torch_files.read import read_torch_file
from circuits_jax.released.viz.means import means_of
from circuits_jax.storage.errors import CheckpointError, CircuitError
from circuits_jax.storage.paths import as_path

DOUBLED = 2.0
BIAS = "bias"  # in place of a source node: the weight is the target's bias
PRUNE_CONFIG, BUG_FIXED = "prune_config", "is_kiter_bug_fixed"
# Losses without a part that is no node and no edge, and what is said of them in the provenance.
PARTS = {"layer_interv_losses": "layer_deltas", "loc_interv_losses": "loc_deltas"}
_KNOWN = {"circuit_data", PRUNE_CONFIG, "num_total_nodes", "all_loss", "samples", "importances", BUG_FIXED}
_KNOWN_OF_IMPORTANCES = {
    "loss", "interv_loss", *PARTS, "ch_interv_losses", "pair_data", "pair_data_connections", "task_samples",
    "task_samples_circuit", "beeg_model_config",
}  # fmt: skip
_SIZES = ("n_layer", "d_model", "heads", "d_head", "neurons", "d_pos", "vocab_size")
_MISSHAPED = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError)


class Sample(NamedTuple):
    """A text on which a node is active: tokens int [T], its activations float32 [T], and where they peak."""

    tokens: np.ndarray
    activations: np.ndarray
    peak: int


# {index: {quantile: (lowest, highest)}} of one site's nodes, and {site: that}
OfSite = Mapping[int, Mapping[float, tuple[tuple[Sample, ...], tuple[Sample, ...]]]]
Samples = Mapping[str, OfSite]
# {site: {index: float32 [D, T]}}
Activations = Mapping[str, Mapping[int, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class VizData:
    """A circuit and what its page shows.

    Attributes:
      circuit: The circuit.
      samples: Texts of the corpus by node and quantile (0.001, 0.01, 0.1, 0.5).
      task_tokens: int [D, T], the task's prompts: the first half with one answer, the other with the other.
        T is the longest prompt's; shorter ones are filled up with 0 on the right.
      task_activations: {site: {index: float32 [D, T]}} on them, in the full model.
      circuit_activations: The same in the circuit alone, if the file holds it.
    """

    circuit: Circuit
    samples: Samples
    task_tokens: np.ndarray
    task_activations: Activations
    circuit_activations: Activations = dataclasses.field(default_factory=dict)


class JoinedNodes(NamedTuple):
    """A matrix between two node sites: `matrix[i, j]` is said of `sources[i]` and `targets[j]`."""

    matrix: np.ndarray
    sources: tuple[int | str, ...]
    targets: tuple[int, ...]
    ends: tuple[str, str]


def import_viz(
    path: str | Path,
    task: str,
    model: Model | None = None,
    means: Mapping[str, np.ndarray] | str | Path | None = None,
    strict: bool = True,
) -> VizData:
    """Reads a `viz_data.pt`, without PyTorch and without running anything in it.

    What the file does not hold: the means that removed nodes were held at, the calibration, accuracies, the
    entries of embedding and unembedding, and which nodes carry nothing of the prompt.  The first are those of
    `mean_baseline_pretrain.pt`, where it lies in the file's folder or one above it, as published, else zeros;
    the calibration is the identity, and with `model` the entries of the embedding and the last are found.
    The released pruning's settings are `provenance["prune_config"]`; `provenance["prune"]` holds our own
    defaults, by which our commands build the task's pairs.  Keys that are not known are told in a warning,
    and kept as `provenance["unknown"]`; padding after the longest prompt is cut off.

    Args:
      path: The file.
      task: What to call the task, which the file does not name.
      model: The model the circuit was cut from.
      means: {node site: float32 [width]}, what removed nodes are held at, or a file of them (`read_means`).
      strict: Whether unknown keys of the model's configuration are an error; otherwise they are told.

    Raises:
      CircuitError: if the file is of another schema, does not fit together, or is not of `model`.
      CheckpointError: if it is damaged, or asks for code.
    """
    path = as_path(path)
    raw = read_torch_file(path)
    try:
        file = _VizFile(raw, strict)
        return file.read(task, path.name, model, means_of(path, file.config, file.final, means))
    except (CheckpointError, CircuitError) as error:
        raise CircuitError(f"{path}: {error}") from error
    except _MISSHAPED as error:
        raise CircuitError(f"{path} is not of the viz_data.pt schema ({error!r})") from error


class _VizFile:
    """One file: what is in it, by parts."""

    def __init__(self, raw: Any, strict: bool):
        self._raw, self._importances = raw, raw["importances"]
        values = dict(self._importances["beeg_model_config"])
        self.config = config_from_released(values, logits_bias=False, strict=strict)
        self.base = float(self._importances["interv_loss"]) / DOUBLED
        self.full = float(self._importances["loss"]) / DOUBLED
        self.final = self._masks_the_end()
        self.order = _order(self.config, raw["circuit_data"], self.final)
        self.nodes = tuple(Node(site, i) for site, kept in self.order.items() for i in sorted(kept))
        self._place = {node: place for place, node in enumerate(self.nodes)}

    def _masks_the_end(self) -> bool:
        """Whether the final residual stream has nodes; of a circuit of ours without, none is kept there."""
        kept = self._raw["circuit_data"].get(sites.FINAL)
        every = sum(sites.node_sites(self.config, final=True).values())
        return kept is not None and (len(kept) > 0 or self._raw.get("num_total_nodes") == every)

    def read(
        self, task: str, name: str, model: Model | None, means: Mapping[str, np.ndarray] | None
    ) -> VizData:
        deltas = _pairs(self._joined("pair_data"))
        weights = _pairs(self._joined("pair_data_connections"))
        kept = [pair for pair, value in (weights or deltas).items() if value and pair[0].index != BIAS]
        joined = {(wire.source, wire.target) for wire in wires(self.config.n_layer)}
        ends = sorted((pair for pair in kept if (pair[0].site, pair[1].site) in joined), key=self._rank)
        others = [pair for pair in kept if (pair[0].site, pair[1].site) not in joined]
        edges = tuple(
            Edge(self._node(source), self._node(target), weights.get((source, target), float("nan")))
            for source, target in ends
        )
        bias = [
            [target.site, target.index, value / DOUBLED]
            for (source, target), value in deltas.items()
            if source.index == BIAS and value
        ]
        tokens, activations = _trimmed(*self._importances["task_samples"])
        within = self._importances.get("task_samples_circuit")
        circuit = Circuit(
            task=task,
            nodes=self.nodes,
            edges=edges,
            bias_only=(False,) * len(self.nodes),
            means=_zeros(self.config, self.final) if means is None else dict(means),
            ablation="zero" if means is None else "mean",
            embedding=(),
            unembedding=(),
            calibration=Calibration(1.0, 0.0),
            metrics=self._metrics(len(edges)),
            model_config=to_dict(self.config),
            model_hash="",
            tokenizer_hash="",
            provenance=self._provenance(name, PruneConfig(tasks=(task,)), bias) | _told(others, deltas),
            importance=self._importance(deltas, ends, len(tokens) // 2),
        )
        return VizData(
            circuit if model is None else _placed_in(circuit, model),
            {site: _samples(each) for site, each in self._raw["samples"].items() if each},
            tokens,
            activations,
            {} if within is None else _trimmed(*within)[1],
        )

    def _joined(self, key: str) -> list[JoinedNodes]:
        """The matrices under `key`; one version of the file nests their list once more."""
        entries = self._importances.get(key) or []
        if not all(map(_is_matrix, entries)):
            entries = [entry for part in entries for entry in part]
        joined = []
        for matrix, sources, targets, ends in entries:
            entry = JoinedNodes(np.asarray(matrix), _ids(sources), _ids(targets), tuple(ends))
            # A matrix without entries has lost its shape.
            if entry.matrix.size and entry.matrix.shape != (len(entry.sources), len(entry.targets)):
                raise CircuitError(
                    f"{key}: the matrix from {ends[0]} to {ends[1]} is {list(entry.matrix.shape)}, but joins "
                    f"{len(entry.sources)} nodes to {len(entry.targets)}"
                )
            joined.append(entry)
        return joined

    def _node(self, node: Node) -> int:
        if node not in self._place:
            raise CircuitError(f"an edge ends at {node}, which circuit_data does not keep")
        return self._place[node]

    def _rank(self, ends: tuple[Node, Node]) -> tuple[int, int, int]:
        """Where `graph.edges_of` would list an edge: matrices in forward order, then by source and target."""
        source, target = ends
        place = self._node(source), self._node(target)  # first, for it says what is not there
        return (list(self.order).index(target.site), *place)

    def _metrics(self, edges: int) -> dict[str, float]:
        return {
            "nodes": float(len(self.nodes)),
            "edges": float(edges),
            "full/test/loss": self.full,
            "full/test/calibrated_loss": self.full,
            "test/loss": self.base,
            "test/calibrated_loss": self.base,
        }

    def _importance(
        self, deltas: Mapping[tuple[Node, Node], float], ends: Sequence[tuple[Node, Node]], pairs: int
    ) -> Importance | None:
        """The rise of the loss by node and edge; None if the file says it of none."""
        losses: dict[Node, float] = {}
        for site, values in self._importances["ch_interv_losses"].items():
            if len(values) != len(self.order.get(site, ())):
                raise CircuitError(
                    f"ch_interv_losses has {len(values)} values at {site}, not one a kept node"
                )
            losses |= {Node(site, i): float(x) for i, x in zip(self.order[site], values, strict=True)}
        nan = float("nan")
        nodes = np.array([losses.get(n, nan) / DOUBLED - self.base for n in self.nodes], np.float32)
        edges = np.array([deltas.get(pair, nan) / DOUBLED for pair in ends], np.float32)
        if np.isnan(nodes).all() and np.isnan(edges).all():
            return None
        return Importance(nodes, edges, attribution={}, exact={}, correlation={}, pairs=pairs)

    def _provenance(self, name: str, prune: PruneConfig, bias: list[list[Any]]) -> dict[str, Any]:
        raw = self._raw
        found = {
            there: {part: float(loss) / DOUBLED - self.base for part, loss in losses.items()}
            for key, there in PARTS.items()
            if (losses := self._importances.get(key)) is not None
        }
        if BUG_FIXED in raw:
            found[BUG_FIXED] = as_json(raw[BUG_FIXED])
        if unknown := self._unknown():
            found["unknown"] = unknown
        every = sum(sites.node_sites(self.config, self.final).values())
        return {
            "imported": name,
            "prune": to_dict(prune),
            "met_target": self.base <= prune.target,
            PRUNE_CONFIG: as_json(raw["circuit_data"].get(PRUNE_CONFIG, raw.get(PRUNE_CONFIG)) or {}),
            "num_total_nodes": int(raw.get("num_total_nodes", every)),
            "all_loss": [[as_json(n), float(loss) / DOUBLED] for n, loss in raw.get("all_loss") or []],
            "bias_deltas": bias,
            **found,
        }

    def _unknown(self) -> dict[str, Any]:
        """{key: value} of what this library does not know, as JSON has it; tells of it."""
        unknown = {str(key): value for key, value in self._raw.items() if key not in _KNOWN}
        unknown |= {
            f"importances.{key}": value
            for key, value in self._importances.items()
            if key not in _KNOWN_OF_IMPORTANCES
        }
        if unknown:
            warnings.warn(
                f"unknown keys of a viz_data.pt, kept in the circuit's provenance: {listed(unknown)}",
                stacklevel=2,
            )
        return {key: sketch(value) for key, value in unknown.items()}


def _told(others: Sequence[tuple[Node, Node]], deltas: Mapping[tuple[Node, Node], float]) -> dict[str, Any]:
    """What is said of pairs that no weight of the network joins, which are no edges."""
    if not others:
        return {}
    names = [f"{source} to {target}" for source, target in others]
    warnings.warn(
        f"pairs that no weight joins, kept in the circuit's provenance: {listed(names)}", stacklevel=3
    )
    values = [plain(deltas.get(pair, float("nan")) / DOUBLED) for pair in others]
    return {"other_deltas": [[name, value] for name, value in zip(names, values, strict=True)]}


def _is_matrix(entry: Sequence[Any]) -> bool:
    """Whether this is a matrix with its sources, targets and ends, and not a list of such."""
    return len(entry) == 4 and len(entry[3]) == 2 and all(isinstance(end, str) for end in entry[3])


def _order(config: ModelConfig, circuit_data: Mapping[str, Any], final: bool) -> dict[str, tuple[int, ...]]:
    """{node site: kept indices in the file's order}, sites in forward order."""
    widths = sites.node_sites(config, final)
    unknown = [site for site in circuit_data if site not in (*widths, PRUNE_CONFIG, sites.FINAL)]
    if unknown:
        raise CircuitError(f"circuit_data names {listed(unknown)}, which this model has not")
    order = {site: _ids(circuit_data[site]) for site in widths if site in circuit_data}
    for site, kept in order.items():
        if len(set(kept)) < len(kept) or any(type(i) is not int or not 0 <= i < widths[site] for i in kept):
            raise CircuitError(
                f"circuit_data keeps at {site} what are no different indices below {widths[site]}"
            )
    return order


def _pairs(entries: Sequence[JoinedNodes]) -> dict[tuple[Node, Node], float]:
    """{(source, target): entry}; the source's index may be BIAS."""
    return {
        (Node(entry.ends[0], source), Node(entry.ends[1], target)): float(entry.matrix[i, j])
        for entry in entries
        for i, source in enumerate(entry.sources)
        for j, target in enumerate(entry.targets)
        if entry.matrix.size
    }


def _ids(values: Any) -> tuple[Any, ...]:
    return tuple(value if value == BIAS else int(value) for value in values)


def _samples(of_site: Mapping[int, Any]) -> OfSite:
    def read(items: Sequence[Any]) -> tuple[Sample, ...]:
        return tuple(
            Sample(np.asarray(item[0], np.int64), np.asarray(item[1], np.float32), int(item[2]))
            for item in items
        )

    return {
        int(index): {float(q): (read(lowest), read(highest)) for q, (lowest, highest) in of_node.items()}
        for index, of_node in of_site.items()
    }


def _trimmed(tokens: Any, activations: Mapping[str, Mapping[Any, Any]]) -> tuple[np.ndarray, Activations]:
    """Prompts and activations on them, without what follows the longest prompt.

    Prompts are filled up with token 0 there, which is no end of text but an ordinary character.
    """
    tokens = np.asarray(tokens, np.int64)
    said = np.flatnonzero((tokens != 0).any(axis=0)) if tokens.size else ()
    length = int(said[-1]) + 1 if len(said) else 0
    return tokens[:, :length], {
        site: {int(i): np.asarray(x, np.float32)[:, :length] for i, x in each.items()}
        for site, each in activations.items()
    }


def _zeros(config: ModelConfig, final: bool) -> dict[str, np.ndarray]:
    return {site: np.zeros(width, np.float32) for site, width in reference_sites(config, final).items()}


def _placed_in(circuit: Circuit, model: Model) -> Circuit:
    """The circuit with what its model tells of it."""
    theirs = from_dict(ModelConfig, circuit.model_config)
    pairs = {name: (getattr(theirs, name), getattr(model.config, name)) for name in _SIZES}
    differ = [f"{name} {first} and {second}" for name, (first, second) in pairs.items() if first != second]
    if differ:
        raise CircuitError(f"the circuit is not of this model: {', '.join(differ)}")
    kept = {edge[:2] for edge in circuit.edges}
    every = graph.edges_of(model.config, model.params, circuit.nodes)
    weights = {edge[:2]: edge.weight for edge in every}
    gone = [edge for edge in every if edge[:2] not in kept]
    params = without_edges(model.config, model.params, circuit.nodes, gone)
    live = graph.reached(model.config, params, circuit.masks())
    return dataclasses.replace(
        circuit,
        edges=tuple(
            edge._replace(weight=weights.get(edge[:2], edge.weight)) if np.isnan(edge.weight) else edge
            for edge in circuit.edges
        ),
        bias_only=tuple(not bool(live[node.site][node.index]) for node in circuit.nodes),
        embedding=graph.embedding_entries(model.config, model.params, circuit.nodes),
        model_config=to_dict(model.config),
        model_hash=model.hash,
        tokenizer_hash="" if model.tokenizer is None else model.tokenizer.hash,
    )

"""Circuits that openai/circuit_sparsity published, from its `viz_data.pt` (schema: `released/README.md`).

Its task losses are stored doubled: a pair's two sides are summed, not averaged.  Here `loss`, `interv_loss`,
`ch_interv_losses`, `pair_data` and `all_loss` are halved on the way in; `layer_interv_losses` is not doubled.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.edge_removal import without_edges
from circuits_jax.circuits.circuit import Calibration, Circuit, Edge, Importance, Node
from circuits_jax.config import ModelConfig, PruneConfig, from_dict, to_dict
from circuits_jax.model import sites
from circuits_jax.model.model import Model
from circuits_jax.released.config import config_from_released
from circuits_jax.released.listing import as_json, listed
from circuits_jax.released.torch_files.read import read_torch_file
from circuits_jax.storage.errors import CheckpointError, CircuitError

DOUBLED = 2.0
BIAS = "bias"  # in place of a source node: the weight is the target's bias
PRUNE_CONFIG = "prune_config"
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


@dataclasses.dataclass(frozen=True)
class VizData:
    """A circuit and what its page shows.

    Attributes:
      circuit: The circuit.
      samples: Texts of the corpus by node and quantile (0.001, 0.01, 0.1, 0.5).
      task_tokens: int [D, T], the task's prompts: the first half with one answer, the other with the other.
      task_activations: {site: {index: float32 [D, T]}} on them.
    """

    circuit: Circuit
    samples: Samples
    task_tokens: np.ndarray
    task_activations: Mapping[str, Mapping[int, np.ndarray]]


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
    means: Mapping[str, np.ndarray] | None = None,
    strict: bool = True,
) -> VizData:
    """Reads a `viz_data.pt`, without PyTorch and without running anything in it.

    What the file does not hold: the means that removed nodes were held at, the calibration, accuracies, the
    entries of embedding and unembedding, and which nodes carry nothing of the prompt.  The first are zeros
    unless given, the calibration is the identity, and with `model` the entries of the embedding and the last
    are found.  The released pruning's settings are `provenance["prune_config"]`; `provenance["prune"]` holds
    our own defaults, by which our commands build the task's pairs.

    What has no place in `Circuit`: the released pruning masks the final residual stream too, where no node of
    ours lies.  The channels that it keeps there are `provenance["final_resid"]`; matrices to them are left.

    Args:
      path: The file.
      task: What to call the task, which the file does not name.
      model: The model the circuit was cut from.
      means: {node site: float32 [width]}, what removed nodes are held at.
      strict: Whether unknown keys of the model's configuration are an error.

    Raises:
      CircuitError: if the file is of another schema, does not fit together, or is not of `model`.
      CheckpointError: if it is damaged, or asks for code.
    """
    raw = read_torch_file(Path(path))
    try:
        return _VizFile(raw, strict).read(task, Path(path).name, model, means)
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
        self.order = _order(self.config, raw["circuit_data"])
        self.nodes = tuple(Node(site, i) for site, kept in self.order.items() for i in sorted(kept))
        self._place = {node: place for place, node in enumerate(self.nodes)}

    def read(
        self, task: str, name: str, model: Model | None, means: Mapping[str, np.ndarray] | None
    ) -> VizData:
        joined = self._joined("pair_data")
        deltas = _pairs(joined)
        weights = _pairs(self._joined("pair_data_connections"))
        kept = (pair for pair, value in (weights or deltas).items() if value and pair[0].index != BIAS)
        ends = sorted(kept, key=self._rank)
        edges = tuple(
            Edge(self._node(source), self._node(target), weights.get((source, target), float("nan")))
            for source, target in ends
        )
        bias = [
            [target.site, target.index, value / DOUBLED]
            for (source, target), value in deltas.items()
            if source.index == BIAS and value
        ]
        tokens, activations = self._importances["task_samples"]
        circuit = Circuit(
            task=task,
            nodes=self.nodes,
            edges=edges,
            bias_only=(False,) * len(self.nodes),
            means=_zeros(self.config) if means is None else dict(means),
            ablation="zero" if means is None else "mean",
            embedding=(),
            unembedding=(),
            calibration=Calibration(1.0, 0.0),
            metrics=self._metrics(len(edges)),
            model_config=to_dict(self.config),
            model_hash="",
            tokenizer_hash="",
            provenance=self._provenance(name, PruneConfig(tasks=(task,)), bias),
            importance=self._importance(deltas, ends, len(tokens) // 2),
        )
        return VizData(
            circuit if model is None else _placed_in(circuit, model),
            {site: _samples(each) for site, each in self._raw["samples"].items() if each},
            np.asarray(tokens, np.int64),
            {
                site: {int(i): np.asarray(x, np.float32) for i, x in each.items()}
                for site, each in activations.items()
            },
        )

    def _joined(self, key: str) -> list[JoinedNodes]:
        """The matrices under `key`; one version of the file nests their list once more."""
        entries = self._importances.get(key) or []
        if not any(len(entry) and isinstance(entry[0], np.ndarray) for entry in entries):
            entries = [entry for part in entries for entry in part]
        joined = []
        for matrix, sources, targets, ends in entries:
            if sites.FINAL in ends:
                continue
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
            "full/heldout/loss": self.full,
            "heldout/loss": self.base,
            "heldout/calibrated_loss": self.base,
        }

    def _importance(
        self, deltas: Mapping[tuple[Node, Node], float], ends: Sequence[tuple[Node, Node]], pairs: int
    ) -> Importance | None:
        """The rise of the loss by node and edge; None if the file says it of none."""
        losses: dict[Node, float] = {}
        for site, values in self._importances["ch_interv_losses"].items():
            if site == sites.FINAL:
                continue
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
        layers = self._importances.get("layer_interv_losses", {})
        return {
            "imported": name,
            "prune": to_dict(prune),
            "met_target": self.base <= prune.target,
            PRUNE_CONFIG: as_json(raw["circuit_data"].get(PRUNE_CONFIG, raw.get(PRUNE_CONFIG)) or {}),
            "num_total_nodes": int(raw["num_total_nodes"]),
            "all_loss": [[as_json(n), float(loss) / DOUBLED] for n, loss in raw.get("all_loss") or []],
            "layer_deltas": {layer: float(loss) - self.base for layer, loss in layers.items()},
            "bias_deltas": bias,
            sites.FINAL: sorted(int(i) for i in raw["circuit_data"].get(sites.FINAL, ())),
        }


def _order(config: ModelConfig, circuit_data: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """{node site: kept indices in the file's order}, sites in forward order."""
    widths = sites.node_sites(config)
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


def _zeros(config: ModelConfig) -> dict[str, np.ndarray]:
    return {
        site: np.zeros(width, np.float32)
        for site, width in sites.sites(config).items()
        if site in sites.node_sites(config) or site.endswith("attn.y")
    }


def _placed_in(circuit: Circuit, model: Model) -> Circuit:
    """The circuit with what its model tells of it."""
    theirs = from_dict(ModelConfig, circuit.model_config)
    pairs = {name: (getattr(theirs, name), getattr(model.config, name)) for name in _SIZES}
    differ = [f"{name} {first} and {second}" for name, (first, second) in pairs.items() if first != second]
    if differ:
        raise CircuitError(f"the circuit is not of this model: {', '.join(differ)}")
    kept = {edge[:2] for edge in circuit.edges}
    every = graph.edges_of(model.config, model.params, circuit.nodes)
    gone = [edge for edge in every if edge[:2] not in kept]
    params = without_edges(model.config, model.params, circuit.nodes, gone)
    live = graph.reached(model.config, params, circuit.masks())
    return dataclasses.replace(
        circuit,
        bias_only=tuple(not bool(live[node.site][node.index]) for node in circuit.nodes),
        embedding=graph.embedding_entries(model.config, model.params, circuit.nodes),
        model_config=to_dict(model.config),
        model_hash=model.hash,
        tokenizer_hash="" if model.tokenizer is None else model.tokenizer.hash,
    )

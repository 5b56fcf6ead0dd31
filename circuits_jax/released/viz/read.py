"""Circuits that openai/circuit_sparsity published, from its `viz_data.pt` (schema: `released/README.md`).

Its task losses are stored doubled: a pair's two sides are summed, not averaged.  All of them are halved on
the way in: `loss`, `interv_loss`, `ch_interv_losses`, `layer_interv_losses`, `loc_interv_losses`, `pair_data`
and `all_loss`.
"""

import dataclasses
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
from circuits_jax.released.viz.parts import (
    BIAS,
    DOUBLED,
    Activations,
    Samples,
    ids,
    matrices,
    number,
    pairs,
    prompts,
    samples,
    trials,
)
from circuits_jax.storage.errors import CheckpointError, CircuitError
from circuits_jax.storage.paths import as_path

PRUNE_CONFIG, BUG_FIXED = "prune_config", "is_kiter_bug_fixed"
WEIGHTS = "pair_data_connections"
# Losses without a part that is no node and no edge, and what is said of them in the provenance.
PARTS = {"layer_interv_losses": "layer_deltas", "loc_interv_losses": "loc_deltas"}
_KNOWN = {"circuit_data", PRUNE_CONFIG, "num_total_nodes", "all_loss", "samples", "importances", BUG_FIXED}
_KNOWN_OF_CIRCUIT = {PRUNE_CONFIG, BUG_FIXED}  # beside its node sites
_KNOWN_OF_IMPORTANCES = {
    "loss", "interv_loss", *PARTS, "ch_interv_losses", "pair_data", WEIGHTS, "task_samples",
    "task_samples_circuit", "beeg_model_config",
}  # fmt: skip
_SIZES = ("n_layer", "d_model", "heads", "d_head", "neurons", "d_pos", "vocab_size")
_MISSHAPED = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError)


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
        self.base = number(self._importances["interv_loss"]) / DOUBLED
        self.full = number(self._importances["loss"]) / DOUBLED
        self.final = self._masks_the_end()
        self.order = _order(self.config, raw["circuit_data"], self.final)
        self.nodes = tuple(Node(site, i) for site, kept in self.order.items() for i in sorted(kept))
        self._place = {node: place for place, node in enumerate(self.nodes)}

    def _total(self, default: int) -> int:
        """How many nodes the model has, as far as the file says."""
        total = self._raw.get("num_total_nodes")
        return default if total is None else int(number(total))

    def _masks_the_end(self) -> bool:
        """Whether the final residual stream has nodes; of a circuit of ours without, none is kept there."""
        kept = self._raw["circuit_data"].get(sites.FINAL)
        every = sum(sites.node_sites(self.config, final=True).values())
        return kept is not None and (len(kept) > 0 or self._total(0) == every)

    def read(
        self, task: str, name: str, model: Model | None, means: Mapping[str, np.ndarray] | None
    ) -> VizData:
        deltas = pairs(matrices(self._importances.get("pair_data"), "pair_data"))
        weights = pairs(matrices(self._importances.get(WEIGHTS), WEIGHTS))
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
        tokens, activations = prompts(self._importances.get("task_samples"))
        _, within = prompts(self._importances.get("task_samples_circuit"))
        prune = PruneConfig(tasks=(task,), hold_select=False)  # of its pairs nothing is known
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
            provenance=self._provenance(name, prune, bias) | _told(others, deltas),
            importance=self._importance(deltas, ends, len(tokens) // 2),
        )
        return VizData(
            circuit if model is None else _placed_in(circuit, model),
            samples(self._raw.get("samples")),
            tokens,
            activations,
            within,
        )

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
        losses = {
            f"{whose}test/{name}": loss
            for whose, loss in (("full/", self.full), ("", self.base))
            for name in ("loss", "calibrated_loss")
            if np.isfinite(loss)
        }
        return {"nodes": float(len(self.nodes)), "edges": float(edges)} | losses

    def _importance(
        self, deltas: Mapping[tuple[Node, Node], float], ends: Sequence[tuple[Node, Node]], pairs: int
    ) -> Importance | None:
        """The rise of the loss by node and edge; None if the file says it of none."""
        losses: dict[Node, float] = {}
        for site, values in (self._importances.get("ch_interv_losses") or {}).items():
            kept = self.order.get(site, ())
            if len(values) != len(kept):
                raise CircuitError(
                    f"ch_interv_losses has {len(values)} values at {site}, not one a kept node"
                )
            losses |= {Node(site, i): number(x) for i, x in zip(kept, values, strict=True)}
        nan = float("nan")
        nodes = np.array([losses.get(n, nan) / DOUBLED - self.base for n in self.nodes], np.float32)
        edges = np.array([deltas.get(pair, nan) / DOUBLED for pair in ends], np.float32)
        if np.isnan(nodes).all() and np.isnan(edges).all():
            return None
        return Importance(nodes, edges, attribution={}, exact={}, correlation={}, pairs=pairs)

    def _provenance(self, name: str, prune: PruneConfig, bias: list[list[Any]]) -> dict[str, Any]:
        raw = self._raw
        found = {
            there: {part: plain(number(loss) / DOUBLED - self.base) for part, loss in losses.items()}
            for key, there in PARTS.items()
            if (losses := self._importances.get(key)) is not None
        }
        if (fixed := self._setting(BUG_FIXED)) is not None:
            found[BUG_FIXED] = as_json(fixed)
        if unknown := self._unknown():
            found["unknown"] = unknown
        every = sum(sites.node_sites(self.config, self.final).values())
        return {
            "imported": name,
            "prune": to_dict(prune),
            "met_target": self.base <= prune.target,
            PRUNE_CONFIG: as_json(self._setting(PRUNE_CONFIG) or {}),
            "num_total_nodes": self._total(every),
            "all_loss": trials(raw.get("all_loss")),
            "bias_deltas": bias,
            **found,
        }

    def _setting(self, key: str) -> Any:
        """What `circuit_data`, or else the file itself, holds under a key that is no node site."""
        return self._raw["circuit_data"].get(key, self._raw.get(key))

    def _unknown(self) -> dict[str, Any]:
        """{key: value} of what this library does not know, as JSON has it; tells of it."""
        unknown = {str(key): value for key, value in self._raw.items() if key not in _KNOWN}
        for part, known in (("circuit_data", _KNOWN_OF_CIRCUIT), ("importances", _KNOWN_OF_IMPORTANCES)):
            unknown |= {
                f"{part}.{key}": value
                for key, value in self._raw[part].items()
                if key not in known and not (part == "circuit_data" and _names_a_site(key))
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


def _names_a_site(key: Any) -> bool:
    """Whether this is the name of a place in a network, of this one or not."""
    return isinstance(key, str) and (key == sites.FINAL or re.match(r"\d+\.", key) is not None)


def _order(config: ModelConfig, circuit_data: Mapping[str, Any], final: bool) -> dict[str, tuple[int, ...]]:
    """{node site: kept indices in the file's order}, sites in forward order."""
    widths = sites.node_sites(config, final)
    unknown = [site for site in circuit_data if _names_a_site(site) and site not in (*widths, sites.FINAL)]
    if unknown:
        raise CircuitError(f"circuit_data names {listed(unknown)}, which this model has not")
    order = {site: ids(circuit_data[site]) for site in widths if site in circuit_data}
    for site, kept in order.items():
        if len(set(kept)) < len(kept) or any(type(i) is not int or not 0 <= i < widths[site] for i in kept):
            raise CircuitError(
                f"circuit_data keeps at {site} what are no different indices below {widths[site]}"
            )
    return order


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

"""Circuits out, as the `viz_data.pt` that the visualizer of openai/circuit_sparsity reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from circuits_jax.circuits.circuit import Circuit
from circuits_jax.config import ModelConfig, from_dict
from circuits_jax.model import sites
from circuits_jax.model.wiring import wires
from circuits_jax.released.config import config_to_released
from circuits_jax.released.torch_files.write import write_torch_file
from circuits_jax.released.viz.parts import DOUBLED, Samples
from circuits_jax.released.viz.read import BUG_FIXED, PARTS, PRUNE_CONFIG, VizData
from circuits_jax.storage.paths import as_path

_UNKNOWN = float("nan")
_NO_PROMPTS = np.zeros((0, 0), np.int64)


def export_viz(data: Circuit | VizData, path: str | Path) -> Path:
    """Writes a circuit; `import_viz` gives its nodes, edges, deltas, losses and samples back.

    The schema has no place for means, calibration, accuracies and the entries of embedding and unembedding.
    What the circuit does not know (the loss without a whole layer; deltas, if not measured) is NaN.

    Args:
      data: A circuit, or one with samples and prompts.
      path: The file; written aside, then renamed.

    Returns:
      The file.

    Raises:
      CheckpointError: if the released configuration cannot express the circuit's model.
      ConfigError: if the circuit does not hold its model's configuration.
    """
    if isinstance(data, Circuit):
        data = VizData(data, {}, _NO_PROMPTS, {})
    circuit = data.circuit
    config = from_dict(ModelConfig, circuit.model_config, "model")
    provenance = circuit.provenance
    widths = sites.node_sites(config, sites.FINAL in circuit.means)
    kept = {site: [n.index for n in circuit.nodes if n.site == site] for site in widths}
    # The visualizer counts the entries of whatever lies in circuit_data: channels alone.
    channels = {**kept, sites.FINAL: kept.get(sites.FINAL, [])}
    value = {
        "circuit_data": {site: np.array(ids, np.int64) for site, ids in channels.items()},
        PRUNE_CONFIG: provenance.get(PRUNE_CONFIG, provenance.get("prune", {})),
        "num_total_nodes": provenance.get("num_total_nodes", sum(widths.values())),
        "all_loss": _all_loss(circuit),
        "samples": {site: _samples(data.samples, site) for site in channels},
        "importances": _importances(data, config, kept),
    }
    if BUG_FIXED in provenance:
        value[BUG_FIXED] = provenance[BUG_FIXED]
    write_torch_file(as_path(path), value)
    return as_path(path)


def _importances(data: VizData, config: ModelConfig, kept: Mapping[str, list[int]]) -> dict[str, Any]:
    circuit = data.circuit
    base = circuit.metrics.get("test/calibrated_loss", _UNKNOWN)
    layers = {f"{layer}.{half}": _UNKNOWN for layer in range(config.n_layer) for half in ("mlp", "attn")}
    parts = {
        key: {name: DOUBLED * (base + _known(delta)) for name, delta in circuit.provenance[there].items()}
        for key, there in PARTS.items()
        if there in circuit.provenance
    }
    weights, deltas = _matrices(circuit, config, kept)
    tokens = _ids(data.task_tokens)
    within = {site: dict(x) for site, x in data.circuit_activations.items()}
    return {
        "loss": DOUBLED * _full_loss(circuit),
        "interv_loss": DOUBLED * base,
        **parts,
        "layer_interv_losses": layers | parts.get("layer_interv_losses", {}),
        "ch_interv_losses": _node_losses(circuit, kept, base),
        "pair_data": deltas,
        "pair_data_connections": weights,
        "task_samples": (tokens, {site: dict(x) for site, x in data.task_activations.items()}),
        **({"task_samples_circuit": (tokens, within)} if within else {}),
        "beeg_model_config": config_to_released(config) | {"tokenizer_name": "tinypython_2k"},
    }


def _all_loss(circuit: Circuit) -> list[tuple[int, float]]:
    """(trial, loss) of the search, or else the circuit's own loss, since the visualizer plots the list."""
    trials = circuit.provenance.get("all_loss") or [[0, circuit.metrics.get("test/calibrated_loss")]]
    return [(trial, DOUBLED * _known(loss)) for trial, loss in trials]


def _known(value: float | None) -> float:
    """NaN for what is not known, which JSON has as null."""
    return _UNKNOWN if value is None else value


def _full_loss(circuit: Circuit) -> float:
    """The whole model's loss, as the circuit's own is measured where that is known."""
    metrics = circuit.metrics
    return metrics.get("full/test/calibrated_loss", metrics.get("full/test/loss", _UNKNOWN))


def _node_losses(circuit: Circuit, kept: Mapping[str, list[int]], base: float) -> dict[str, list[float]]:
    """The loss without each kept node."""
    losses: dict[str, list[float]] = {site: [] for site in kept}
    for place, node in enumerate(circuit.nodes):
        found = circuit.importance
        delta = float("nan") if found is None else float(found.node_deltas[place])
        losses[node.site].append(DOUBLED * (base + delta))
    return losses


def _matrices(
    circuit: Circuit, config: ModelConfig, kept: Mapping[str, list[int]]
) -> tuple[list[list[Any]], list[list[Any]]]:
    """`pair_data_connections` and `pair_data`: weights, and deltas, between the nodes of two sites."""
    row = {(site, index): i for site, ids in kept.items() for i, index in enumerate(ids)}
    weights, deltas = [], []
    tables = {}
    for wire in wires(config.n_layer):
        ends = wire.source, wire.target
        shape = (len(kept[wire.source]), len(kept[wire.target]))
        tables[ends] = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for table, entries in zip(tables[ends], (weights, deltas), strict=True):
            entries.append([table, kept[wire.source], kept[wire.target], ends])
    for place, edge in enumerate(circuit.edges):
        source, target = circuit.nodes[edge.source], circuit.nodes[edge.target]
        weight, delta = tables[source.site, target.site]
        found = circuit.importance
        weight[row[source], row[target]] = edge.weight
        delta[row[source], row[target]] = (
            np.nan if found is None else DOUBLED * found.edge_deltas[place]
        )  # fmt: skip
    return weights, deltas


def _samples(samples: Samples, site: str) -> dict[int, dict[float, list[list[tuple[Any, ...]]]]]:
    return {
        index: {
            quantile: [
                [(_ids(s.tokens), np.asarray(s.activations, np.float32), s.peak) for s in items]
                for items in both
            ]
            for quantile, both in of_node.items()
        }
        for index, of_node in samples.get(site, {}).items()
    }


def _ids(tokens: np.ndarray) -> np.ndarray:
    return np.asarray(tokens, np.int64)

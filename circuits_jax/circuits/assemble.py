"""From masks that pruning found to a circuit as data."""

import importlib.metadata
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.circuits.prune import Pruned
from circuits_jax.config import ModelConfig, PruneConfig, to_dict
from circuits_jax.model.fingerprint import model_hash
from circuits_jax.model.transformer import Params
from circuits_jax.tasks.task import Pairs


def make_circuit(
    pruned: Pruned,
    config: ModelConfig,
    params: Params,
    means: Mapping[str, jax.Array],
    prune: PruneConfig,
    pairs: Pairs,
    tokenizer_hash: str,
) -> Circuit:
    """The circuit of `pruned`, with its edges, constants and provenance.

    Args:
      pruned: What `Pruner.prune` found.
      config, params: The model it was found in.
      means: What removed nodes are held at.
      prune: How it was found.
      pairs: The task's training pairs, whose answers name the unembedding entries to list.
      tokenizer_hash: Of the tokenizer the pairs were made with.
    """
    params = jax.tree.map(np.asarray, params)
    nodes = graph.nodes_of(config, pruned.masks)
    edges = graph.edges_of(config, params, nodes)
    live = graph.reached(config, params, pruned.masks)
    provenance: dict[str, Any] = {
        "prune": to_dict(prune),
        "met_target": pruned.met_target,
        "mediocre_model": pruned.mediocre,
        "pairs_survived": pairs.survived,
        "versions": {name: importlib.metadata.version(name) for name in ("circuits_jax", "jax", "optax")},
    }
    return Circuit(
        task=pairs.task,
        nodes=nodes,
        edges=edges,
        bias_only=tuple(not bool(live[node.site][node.index]) for node in nodes),
        means={site: np.asarray(mean, np.float32) for site, mean in means.items()},
        ablation=prune.ablation,
        embedding=graph.embedding_entries(config, params, nodes),
        unembedding=graph.unembedding_entries(config, params, nodes, np.unique(pairs.answers)),
        calibration=pruned.calibration,
        metrics={**pruned.metrics, "nodes": float(len(nodes)), "edges": float(len(edges))},
        model_config=to_dict(config),
        model_hash=model_hash(config, params),
        tokenizer_hash=tokenizer_hash,
        provenance=provenance,
    )

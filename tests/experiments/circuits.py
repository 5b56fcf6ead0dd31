"""A circuit for commands that draw, audit and export one, of any run, whatever its model knows."""

import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.circuit import Calibration, Circuit
from circuits_jax.circuits.masks import full_masks
from circuits_jax.config import PruneConfig, to_dict
from circuits_jax.model.sites import node_sites
from circuits_jax.runs.run import Run


def every_third_node(run: Run, task: str, prune: PruneConfig) -> Circuit:
    """Every third node of the run's model, as if `prune` had found it; removed ones are held at zero."""
    config = run.model.config
    masks = full_masks(config)
    for mask in masks.values():
        mask[np.arange(len(mask)) % 3 > 0] = 0
    nodes = graph.nodes_of(config, masks)
    return Circuit(
        task=task,
        nodes=nodes,
        edges=graph.edges_of(config, run.model.params, nodes),
        bias_only=(False,) * len(nodes),
        means={site: np.zeros(width, np.float32) for site, width in node_sites(config).items()},
        ablation="zero",
        embedding=(),
        unembedding=(),
        calibration=Calibration(1.0, 0.0),
        metrics={},
        model_config=to_dict(config),
        model_hash=run.model.hash,
        tokenizer_hash=run.tokenizer.hash,
        provenance={"prune": to_dict(prune)},
    )

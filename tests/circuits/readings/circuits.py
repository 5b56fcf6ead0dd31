"""Circuits of given nodes and edges, for readings."""

import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.circuit import Calibration, Circuit
from circuits_jax.config import to_dict


def circuit_of(model, means, nodes, gone=(), calibration=Calibration(1.0, 0.0)):  # noqa: B008 - frozen
    """These nodes and all weights between them but `gone`."""
    edges = graph.edges_of(model.config, model.params, nodes)
    return Circuit(
        task="made up",
        nodes=nodes,
        edges=tuple(edge for edge in edges if edge not in gone),
        bias_only=(False,) * len(nodes),
        means={site: np.asarray(mean) for site, mean in means.items()},
        ablation="mean",
        embedding=(),
        unembedding=(),
        calibration=calibration,
        metrics={},
        model_config=to_dict(model.config),
        model_hash="",
        tokenizer_hash="",
        provenance={},
    )

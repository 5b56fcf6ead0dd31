"""What circuit discovery is compared with: scores of a model's edges by the field's methods, and the curve of
faithfulness against size (docs/statistics.md, "Faithfulness against size").

    network = EdgeNetwork(Subject(model, means), "counterfactual")
    found = scores("eap-ig", network, pairs)
    found.by_edge()  # {(source node, target node): score}
"""

from circuits_jax.circuits.baselines.curves import FRACTIONS, SizeCurve, areas, faithfulness
from circuits_jax.circuits.baselines.edge_network import REFERENCES, EdgeNetwork
from circuits_jax.circuits.baselines.model_edges import ModelEdges
from circuits_jax.circuits.baselines.scores import METHODS, EdgeScores, ScoreSettings, scores

__all__ = [
    "FRACTIONS",
    "METHODS",
    "REFERENCES",
    "SizeCurve",
    "EdgeNetwork",
    "EdgeScores",
    "ModelEdges",
    "ScoreSettings",
    "areas",
    "faithfulness",
    "scores",
]

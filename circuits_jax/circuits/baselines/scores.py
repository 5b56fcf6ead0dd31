"""Scores of all edges of a model by the field's methods (docs/statistics.md, "Faithfulness against size").

- *attribution*, ours: the first-order estimate of how much the task loss rises without the edge.
- *EAP-IG* (Hanna et al. 2024, "Have Faith in Faithfulness"): the size of the same estimate of the logit
  difference, averaged along the line from all edges removed to none.  The activations of all edges move
  together, so scores before taking their size add up to the difference between model and nothing.
- *ACDC* (Conmy et al. 2023): `baselines.acdc`.
- *random*.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from circuits_jax.circuits.ablation.pairs import PairBatch
from circuits_jax.circuits.baselines.acdc import acdc
from circuits_jax.circuits.baselines.edge_network import EdgeNetwork
from circuits_jax.circuits.baselines.model_edges import ModelEdges
from circuits_jax.circuits.circuit import Node
from circuits_jax.config.audit import ACDC_COSTS, AuditConfig
from circuits_jax.config.checks import check_choice, check_positive, check_seed


@dataclasses.dataclass(frozen=True)
class ScoreSettings:
    """How scores are found.

    Attributes:
      steps: Points on the line that EAP-IG averages over.
      thresholds: Of ACDC, increasing; in nats, or units of the logit difference.
      cost: What ACDC keeps low, of ACDC_COSTS.
      seed: Of the random order.
    """

    steps: int = 5
    thresholds: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
    cost: str = "kl"
    seed: int = 0

    @classmethod
    def of(cls, config: AuditConfig) -> "ScoreSettings":
        """Those of the section `audit`."""
        return cls(config.ig_steps, config.acdc_thresholds, config.acdc_cost, config.seed)

    def __post_init__(self) -> None:
        check_positive("steps", self.steps)
        check_choice("the cost of ACDC", self.cost, ACDC_COSTS)
        check_seed("seed", self.seed)
        for threshold in self.thresholds:
            check_positive("a threshold of ACDC", threshold)


@dataclasses.dataclass(frozen=True, eq=False)
class EdgeScores:
    """A score of every edge; the higher, the sooner it is kept.

    Attributes:
      method: Of METHODS.
      edges: The model's, E of them.
      values: float64 [E].
    """

    method: str
    edges: ModelEdges
    values: np.ndarray

    def order(self) -> np.ndarray:
        """The edges, the highest score first, int [E]; ties as in the model."""
        return np.argsort(-self.values, kind="stable")

    def by_edge(self) -> dict[tuple[Node, Node], float]:
        """{(source, target): score}."""
        return {self.edges.ends(i): float(value) for i, value in enumerate(self.values)}


def scores(
    method: str,
    network: EdgeNetwork,
    pairs: PairBatch,
    settings: ScoreSettings = ScoreSettings(),  # noqa: B008  (frozen)
) -> EdgeScores:
    """Scores of all edges of a network on some pairs.

    Args:
      method: Of METHODS.
      network: The model, with what stands in for removed edges.
      pairs: N pairs (`ablation.pairs.pair_batch`), which should not be those that the scores are judged on.
      settings: Of the methods.

    Raises:
      ConfigError: for an unknown method.
    """
    check_choice("the method", method, METHODS)
    return EdgeScores(method, network.edges, METHODS[method](network, pairs, settings))


def _attribution(network: EdgeNetwork, pairs: PairBatch, settings: ScoreSettings) -> np.ndarray:
    return -np.asarray(network.slopes(1.0, pairs), np.float64)


def _eap_ig(network: EdgeNetwork, pairs: PairBatch, settings: ScoreSettings) -> np.ndarray:
    middles = (np.arange(settings.steps) + 0.5) / settings.steps
    slopes = [np.asarray(network.slopes(float(share), pairs, "margin"), np.float64) for share in middles]
    return np.abs(np.mean(slopes, axis=0))


def _acdc(network: EdgeNetwork, pairs: PairBatch, settings: ScoreSettings) -> np.ndarray:
    likely = np.abs(_attribution(network, pairs, settings))
    return acdc(network, pairs, likely, settings.thresholds, settings.cost)


def _random(network: EdgeNetwork, pairs: PairBatch, settings: ScoreSettings) -> np.ndarray:
    return np.random.RandomState(settings.seed).random_sample(network.edges.count)


METHODS: dict[str, Callable[[EdgeNetwork, PairBatch, ScoreSettings], np.ndarray]] = {
    "attribution": _attribution,
    "eap-ig": _eap_ig,
    "acdc": _acdc,
    "random": _random,
}

"""Pruning: section `prune`."""

import dataclasses

from circuits_jax.config.checks import (
    check_choice,
    check_decay,
    check_fraction,
    check_not_negative,
    check_positive,
    check_seed,
)
from circuits_jax.storage.errors import ConfigError

CONSTANT_ABLATIONS = ("mean", "zero")
ABLATIONS = (*CONSTANT_ABLATIONS, "resample", "counterfactual")
BATCHINGS = ("auto", "vmap", "map")


@dataclasses.dataclass(frozen=True)
class PruneConfig:
    """Finding the smallest circuit (docs/method.md, "Pruning").

    Attributes:
      tasks: Names of the tasks to prune for.
      steps: Optimizer steps on the masks.
      batch_pairs: Contrast pairs a step (two prompts each).
      train_pairs, select_pairs, test_pairs: Pairs built of each split.
      k_coef: Price of one kept node, in nats.
      log_k_coef: Price of the logarithm of their number, in nats: each node of a small circuit costs more.
      learning_rate, weight_decay, b2: AdamW's, the rate decaying linearly to 0.
      init_mean, init_std: Of the masks' parameters tau.
      temperature: Of the sigmoid whose derivative stands in for the step's.
      target: Calibrated task loss the circuit must hold on select pairs.
      slack: Share of the target that is allowed during the search, on training and where it can on select
        pairs, so that pairs of other words and templates hold the target too.
      hold_select: Whether the search looks at select pairs as well, and holds the target there where it can;
        False looks at training pairs alone, as the paper does.
      retries: How often a circuit that misses the target on select pairs is searched once more among the same
        learnt masks, each time with half the slack.
      learnt: Calibrated loss on select pairs that a full model has at most to be pruned; None for 0.1 nats
        below chance.
      ablation: What a removed node is held at: its corpus "mean", "zero", its value on another pair's prompt
        ("resample") or on the pair's other prompt ("counterfactual").
      mean_batches: Corpus batches the means are taken over.
      seed: Seed of tau and of the pairs' order.
      batching: How one program takes many runs: "vmap", "map" (in turn), or "auto": map on CPU, else vmap.
      cuts: Shares of the steps after which settled nodes are cut out of the network, increasing; () never.
      trials: Settings tried for each task, sampled around the configured ones; the first are these.  A price
        of 0 stays 0.
      seeds: Seeds tried with each.
      edge_steps: Optimizer steps on the masks of the edges, after the nodes; 0 keeps every edge.
      final_resid: Whether the final residual stream has nodes too, as in published circuits; None as the run
        has it, where a released model has it true and one trained here false.
      importance_pairs: Training pairs that ablation deltas are averaged over.
      importance_nodes: Nodes of the full model, half of them of the circuit where it has as many, whose
        deltas are measured to compare first-order attributions with; 0 measures none.
    """

    tasks: tuple[str, ...] = ("single_double_quote", "bracket_counting", "set_or_string")
    steps: int = 300
    batch_pairs: int = 64
    train_pairs: int = 512
    select_pairs: int = 256
    test_pairs: int = 256
    k_coef: float = 1e-4
    log_k_coef: float = 0.0
    learning_rate: float = 1e-2
    weight_decay: float = 1e-3
    b2: float = 0.95
    init_mean: float = 0.1
    init_std: float = 0.01
    temperature: float = 1.0
    target: float = 0.15
    slack: float = 0.8
    hold_select: bool = True
    ablation: str = "mean"
    mean_batches: int = 16
    seed: int = 0
    batching: str = "auto"
    cuts: tuple[float, ...] = ()
    trials: int = 1
    seeds: int = 1
    edge_steps: int = 40
    final_resid: bool | None = None
    importance_pairs: int = 64
    importance_nodes: int = 64
    retries: int = 0
    learnt: float | None = None

    @property
    def limit(self) -> float:
        """The loss that the search asks for first, in nats."""
        return self.target * self.slack

    def __post_init__(self) -> None:
        for field in ("steps", "batch_pairs", "learning_rate", "train_pairs", "select_pairs", "test_pairs"):
            check_positive(f"prune.{field}", getattr(self, field))
        check_positive("prune.importance_pairs", self.importance_pairs)
        if self.learnt is not None:
            check_positive("prune.learnt", self.learnt)
        for field in ("edge_steps", "importance_nodes", "retries"):
            check_not_negative(f"prune.{field}", getattr(self, field))
        for field in ("temperature", "target", "mean_batches", "trials", "seeds"):
            check_positive(f"prune.{field}", getattr(self, field))
        if any(not 0 < cut < 1 for cut in self.cuts) or list(self.cuts) != sorted(set(self.cuts)):
            raise ConfigError(f"prune.cuts is {self.cuts}; give increasing shares of the steps, in (0, 1)")
        check_fraction("prune.slack", self.slack)
        check_decay("prune.b2", self.b2)
        for field in ("k_coef", "log_k_coef", "weight_decay", "init_std"):
            check_not_negative(f"prune.{field}", getattr(self, field))
        if not self.tasks:
            raise ConfigError("prune.tasks is empty; name at least one task")
        check_choice("prune.ablation", self.ablation, ABLATIONS)
        check_choice("prune.batching", self.batching, BATCHINGS)
        check_seed("prune.seed", self.seed)

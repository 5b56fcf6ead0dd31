"""Pruning the edges of a circuit whose nodes are chosen (docs/method.md, "Pruning").

As with nodes: a mask for each edge is learned, the smallest set that holds the target is searched, and what
is left is tried once more.  Only nonzero weights between kept nodes are edges, and only they have masks.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.donors import AnyPairs
from circuits_jax.circuits.ablation.edge_removal import edge_set, without_edges
from circuits_jax.circuits.ablation.means import Subject
from circuits_jax.circuits.circuit import Node
from circuits_jax.circuits.masks import Masks, Place
from circuits_jax.circuits.pruning.ablator import EDGES, Ablator, ablated_difference
from circuits_jax.circuits.pruning.fit import MaskLoss, shared_fitter, start_fit
from circuits_jax.circuits.pruning.probes import JudgedBy
from circuits_jax.circuits.pruning.search import (
    Search,
    seek_drop,
    seek_needless,
    seek_smallest,
    settle,
    translated,
)
from circuits_jax.circuits.pruning.taus import clamp
from circuits_jax.config import PruneConfig
from circuits_jax.model.transformer import Transformer
from circuits_jax.storage.progress import ProgressBar
from circuits_jax.tasks.metrics import loss_of_difference
from circuits_jax.training.multihost.processes import is_primary

# Edges that are tried without, one by one, after the search: the least wanted of those left.
MOST_TRIED = 512


@dataclasses.dataclass(frozen=True)
class PrunedEdges:
    """A circuit after edge pruning.

    Attributes:
      masks: {node site: float32 [width]}, 1 on kept nodes.
      edges: (source, target) of kept edges.
    """

    masks: Masks
    edges: frozenset[tuple[Node, Node]]


def prune_edges(
    subject: Subject, masks: Masks, prune: PruneConfig, by: JudgedBy, answers: np.ndarray
) -> PrunedEdges:
    """The circuit with as few edges as are found to hold the target.

    A circuit that misses the target with all its edges keeps them.

    Args:
      subject: The full model and its means.
      masks: {node site: float32 [width]}, 1 on the circuit's nodes.
      prune: Steps, target and the rest.
      by: What is asked of it; first of the training pairs, which masks are learnt on.
      answers: The task's answer tokens.
    """
    with ProgressBar(desc="edges", unit="try", leave=False, delay=5, disable=not is_primary()) as bar:
        return _EdgePruner(subject, masks, prune, by, bar).prune(answers)


class _EdgePruner:
    """The edges of one circuit, and by how much it misses the target without some of them."""

    def __init__(self, subject: Subject, masks: Masks, prune: PruneConfig, by: JudgedBy, bar: ProgressBar):
        config, self._bar = subject.model.config, bar
        self._config, self._prune, self._by, self._train = config, prune, by, by[0].pairs
        self._params = jax.tree.map(np.asarray, subject.model.params)
        self._masks = {site: np.array(mask, np.float32) for site, mask in masks.items()}
        self.nodes = graph.nodes_of(config, masks)
        self.edges = graph.edges_of(config, self._params, self.nodes)
        self._ablator = Ablator(subject, edge_set(config, self.nodes, self.edges), prune, masks)

    def prune(self, answers: np.ndarray) -> PrunedEdges:
        whole = {**self._masks, EDGES: np.ones(len(self.edges), np.float32)}
        if not self.edges or not self._prune.edge_steps or self._misses([whole])[0] > 0:
            return self._pruned_edges(whole)
        order, likely = self._order(whole)

        def first(count: int) -> Masks:
            mask = np.zeros(len(order), np.float32)
            mask[order[:count]] = 1
            return {**whole, EDGES: mask}

        count = self._settle(translated(seek_smallest(likely, len(order)), first)) or len(order)
        last = [(EDGES, int(i)) for i in order[:count][-MOST_TRIED:]]
        kept = self._settle(seek_needless(first(count), last))
        return self._pruned_edges(self._without_pathless(kept, answers))

    def _order(self, whole: Masks) -> tuple[np.ndarray, int]:
        """All edges, the most wanted first (by tau, ties by attribution), and how many taus chose to keep."""
        variant = self._variant(whole)
        calibration = self._ablator.calibrate(variant, self._train)
        importance = self._ablator.attributions(variant, self._train, calibration)[EDGES][: len(self.edges)]
        taus = self._fit()
        return np.lexsort((-importance, -taus)), int((taus >= 0).sum())

    def _fit(self) -> np.ndarray:
        """Learned taus of the edges, float32 [edges]."""
        prune, capacity = self._prune, len(self._ablator.whole[EDGES])
        key = jax.random.PRNGKey(prune.seed)
        drawn = clamp(prune.init_mean + prune.init_std * jax.random.normal(key, (capacity,)))
        # A tau below 0 from the start: padding is not counted as kept.
        taus = {EDGES: jnp.where(jnp.arange(capacity) < len(self.edges), drawn, -1)}
        # Without what decides nothing here, so that fits share a compilation.
        settings = dataclasses.replace(prune, steps=prune.edge_steps, seed=0, tasks=("all",))
        fitter = shared_fitter(_loss(self._ablator.network), settings, tuple(jax.devices()))
        run = start_fit(settings, taus, jax.random.PRNGKey(prune.seed), self._train)
        shared = (self._ablator.folded, jax.tree.map(jnp.asarray, self._masks))
        (fitted,) = fitter.fit(shared, [run], settings.steps)
        return np.asarray(fitted.taus[EDGES])[: len(self.edges)]

    def _without_pathless(self, kept: Masks, answers: np.ndarray) -> Masks:
        """Without the nodes that lost their last path with an edge, if the target holds without them too."""
        tried = self._pathless({**kept, EDGES: np.ones_like(kept[EDGES])}, answers)
        while True:
            lost = self._pathless(kept, answers) - tried
            if not lost:
                return kept
            tried |= lost
            kept = self._settle(seek_drop(kept, sorted(lost)))

    def _pathless(self, kept: Masks, answers: np.ndarray) -> set[Place]:
        """The kept nodes that lie on no path from the prompt to an answer."""
        config = self._config
        gone = [edge for edge, mask in zip(self.edges, kept[EDGES], strict=True) if not mask]
        params = without_edges(config, self._params, self.nodes, gone)
        masks = {site: mask for site, mask in kept.items() if site != EDGES}
        live, leads = graph.reached(config, params, masks), graph.useful(config, params, masks, answers)
        return {
            tuple(node)
            for node in graph.nodes_of(config, masks)
            if not (live[node.site][node.index] and leads[node.site][node.index])
        }

    def _settle(self, search: Search) -> Any:
        return settle({0: search}, lambda asked: self._misses([kept for _, kept in asked]))[0]

    def _misses(self, candidates: Sequence[Masks]) -> list[float]:
        """By how much each misses the target."""
        variants = [self._variant(kept) for kept in candidates]
        misses = self._ablator.misses(variants, self._by, estimate=len(variants) > 1)
        self._bar.update(len(variants))
        return misses

    def _variant(self, kept: Masks) -> Masks:
        """Leaves an edge unchanged when one of its ends was removed."""
        edges = self._ablator.whole[EDGES].copy()
        edges[: len(self.edges)] = np.where(self._joined(kept), kept[EDGES], 1)
        return {**kept, EDGES: edges}

    def _joined(self, kept: Masks) -> np.ndarray:
        """Of each edge, whether both its ends are kept: bool [edges]."""
        there = np.array([kept[node.site][node.index] > 0 for node in self.nodes])
        ends = np.array([edge[:2] for edge in self.edges], int).reshape(-1, 2)
        return there[ends].all(axis=1)

    def _pruned_edges(self, kept: Masks) -> PrunedEdges:
        left = self._joined(kept) & (kept[EDGES] > 0)
        return PrunedEdges(
            masks={site: mask for site, mask in kept.items() if site != EDGES},
            edges=frozenset(
                (self.nodes[edge.source], self.nodes[edge.target])
                for edge, stays in zip(self.edges, left, strict=True)
                if stays
            ),
        )


@functools.lru_cache(maxsize=8)
def _loss(network: Transformer) -> MaskLoss:
    """The task loss in the masks of the edges; one function a network, so that fits share a compilation."""

    def loss(shared: tuple, own: tuple, masks: Masks, batch: AnyPairs) -> jax.Array:
        del own
        folded, nodes = shared
        return loss_of_difference(ablated_difference(network, folded, {**nodes, **masks}, batch))

    return loss

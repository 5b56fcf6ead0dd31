"""Steering on one task: curves, controls, specificity and the reverse check (docs/method.md, "Steering")."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from circuits_jax.bridges.evaluation import Joined
from circuits_jax.bridges.steering.directions import (
    Candidate,
    candidates,
    check_steerable,
    choose,
    differences,
    directions,
    slopes,
)
from circuits_jax.bridges.steering.strengths import (
    Answers,
    at_sites,
    flip_strength,
    on_texts,
    sweep,
    text_divergence,
)
from circuits_jax.bridges.steering.writes import (
    SiteDeltas,
    make_edit,
    random_directions,
    random_nodes,
    wrong_positions,
)
from circuits_jax.circuits.ablation.pairs import PairBatch
from circuits_jax.circuits.audit.intervals import ClusteredIntervals, Figure
from circuits_jax.circuits.circuit import Node
from circuits_jax.config import SteerConfig
from circuits_jax.storage.tables import Report

OURS, SPARSE, WHOLE = "the node", "the sparse model itself", "the whole sparse stream"
RANDOM_NODE, RANDOM_DIRECTION, WRONG = "another node", "a random direction", "wrong positions"
CONTROLS = (RANDOM_NODE, RANDOM_DIRECTION, WRONG)
SHOWN_SITES = 16


class Steering:
    """Two joined models, in which nodes are turned.

    Args:
      joined: The models and their bridges.
      config: Strengths, sizes and bands.
    """

    def __init__(self, joined: Joined, config: SteerConfig):
        self.joined, self.config = joined, config
        self.strengths = sorted({0.0, *config.strengths})  # what nothing was done to is always there
        self._writes = directions(joined.bridge, joined.sparse.params, joined.bridges)

    def find(
        self, train: PairBatch, allowed: Callable[[Node], bool] = lambda node: True
    ) -> tuple[list[Node], list[Report]]:
        """The configured number of nodes, chosen on training pairs, and a table of the best of each site.

        Args:
          allowed: Which nodes may be chosen; all by default.

        Raises:
          BridgeError: if no node separates the prompts and pushes the dense model towards B.
        """
        values = self._values(train, self._writes)
        slope = slopes(self.joined.bridge, self.joined.dense, train)
        found, config = candidates(self._writes, values, slope), self.config
        nodes = choose(found, config.nodes, config.separation, allowed)
        best: dict[str, Candidate] = {}
        for each in found:
            if each.separation >= config.separation and allowed(each.node):
                best.setdefault(each.node.site, each)
        table = [{"node": str(n), "separation": s, "effect": e} for n, s, e in best.values()]
        return nodes, table[:SHOWN_SITES]

    def run(
        self,
        nodes: Sequence[Node],
        select: PairBatch,
        prompts: PairBatch,
        templates: np.ndarray,
        texts: np.ndarray,
    ) -> Report:
        """Steers the dense model by `nodes` on the test `prompts`.

        Args:
          select: Select pairs, by which the strength is chosen that single figures are of.
          templates: int [N], which template each of `prompts` was made from.
          texts: int [M, T], unrelated text of the prompts' length.

        Returns:
          {"nodes"; "pairs"; "strengths", 0 among them; "series": {an edit: "other_answer" (the probability of
          B's answer against A's, with its band), "flipped" (the share of pairs where it is the likelier one),
          "probability_a" and "probability_b" (among all tokens), "draws", each at every strength};
          "untouched": {model: what B's answer has on prompt B itself}; "flip_strength", at which most select
          answers flip, or None; "shown_strength", of what follows; "select": {"pairs", "flipped" at every
          strength}; "specificity": {an edit: KL on `texts`}; "reverse"; "pair_figures"}.

        Raises:
          BridgeError: if a node writes nothing into the stream, or a strength overflows.
        """
        bridge = self.joined.bridge
        for node in nodes:
            check_steerable(node, bridge.sparse)
        chosen = self._choose(nodes, select)
        values, ours = self._edit(nodes, prompts)
        controls = self._controls(nodes, values, prompts)
        answers = {OURS: [self._steer(prompts, ours)]}
        answers |= {name: [self._steer(prompts, edit) for edit in edits] for name, edits in controls.items()}
        answers[WHOLE] = [self._steer(prompts, self._stream(nodes, prompts))]
        answers[SPARSE] = [self._turn(nodes, prompts, values)]
        strength = chosen["shown_strength"]
        band = ClusteredIntervals(templates, self.config.confidence).rate
        edits = {OURS: [ours], **controls}
        return {
            "nodes": [str(node) for node in nodes],
            "pairs": len(prompts.last),
            "strengths": list(self.strengths),
            "series": {name: self._series(found, band) for name, found in answers.items()},
            "untouched": self._untouched(prompts, band),
            **chosen,
            "specificity": self._specificity(edits, texts, strength),
            "reverse": self._reverse(answers, strength),
            "pair_figures": self._pairs(answers[OURS][0], strength),
        }

    def _choose(self, nodes: Sequence[Node], select: PairBatch) -> Report:
        """The strength at which most select answers flip, else the greatest, and what flips at each."""
        found = self._steer(select, self._edit(nodes, select)[1])
        flip = flip_strength(self.strengths, found.other)
        return {
            "flip_strength": flip,
            "shown_strength": self.strengths[-1] if flip is None else flip,
            "select": {"pairs": select.size, "flipped": _flipped([found])},
        }

    def _edit(
        self, nodes: Sequence[Node], prompts: PairBatch
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """By how much the nodes' sites differ on prompt B, and the nodes' edit, both by site."""
        values = self._values(prompts, {node.site for node in nodes})
        return values, at_sites(make_edit(nodes, self._writes, values), self.joined.bridge.sites)

    def _values(self, prompts: PairBatch, sites: Any) -> dict[str, np.ndarray]:
        reads = [self._writes[site].reads for site in sites]
        return differences(self.joined.sparse, prompts, reads)

    def _steer(self, prompts: PairBatch, deltas: Mapping[str, np.ndarray]) -> Answers:
        return sweep(self.joined.dense, prompts, deltas, self.strengths)

    def _controls(
        self, nodes: Sequence[Node], values: Mapping[str, np.ndarray], prompts: PairBatch
    ) -> dict[str, list[dict[str, np.ndarray]]]:
        """Each control's edits by site, one a draw."""
        rng, sites = np.random.RandomState(self.config.seed), self.joined.bridge.sites
        shared = (nodes, self._writes, values)
        makers: dict[str, Callable[[], SiteDeltas]] = {
            RANDOM_NODE: lambda: random_nodes(*shared, rng),
            RANDOM_DIRECTION: lambda: random_directions(*shared, rng),
            WRONG: lambda: wrong_positions(*shared, prompts.within(), rng),
        }
        draws = range(self.config.draws)
        return {name: [at_sites(make(), sites) for _ in draws] for name, make in makers.items()}

    def _stream(self, nodes: Sequence[Node], prompts: PairBatch) -> dict[str, np.ndarray]:
        """B - A of everything the bridge carries, at the nodes' sites: what one node is a part of."""
        bridge, decoder = self.joined.bridge, np.asarray(self.joined.bridges["decoder"]["kernel"])
        places = sorted({self._writes[node.site].place for node in nodes})
        reads = [bridge.sites[place] for place in places]
        values = differences(self.joined.sparse, prompts, reads)
        return {bridge.sites[place]: values[bridge.sites[place]] @ decoder[place] for place in places}

    def _turn(self, nodes: Sequence[Node], prompts: PairBatch, values: Mapping[str, np.ndarray]) -> Answers:
        """The same nodes turned inside the sparse model: at strength 1 they have their values on B."""
        deltas: dict[str, np.ndarray] = {}
        for node in nodes:
            site = self._writes[node.site].reads
            deltas.setdefault(site, np.zeros_like(values[site]))[..., node.index] = values[site][
                ..., node.index
            ]
        return sweep(self.joined.sparse, prompts, deltas, self.strengths)

    def _untouched(self, prompts: PairBatch, band: Callable[[np.ndarray], Figure]) -> Report:
        """Probability of B's answer on prompt B, which a perfect edit reaches, in both models."""
        swapped = PairBatch(prompts.tokens[:, ::-1], prompts.last, prompts.answers)
        found = {}
        for name, model in (("dense", self.joined.dense), ("sparse", self.joined.sparse)):
            nothing = {self.joined.bridge.sites[0]: np.zeros((*prompts.tokens[:, 0].shape, 1), np.float32)}
            found[name] = dataclasses.asdict(band(sweep(model, swapped, nothing, [0.0]).other[0]))
        return found

    def _specificity(
        self, edits: Mapping[str, Sequence[Mapping[str, np.ndarray]]], texts: np.ndarray, strength: float
    ) -> Report:
        """KL of the dense model on unrelated text under the very edits of the pairs, in nats a token."""
        found = {}
        band = ClusteredIntervals(np.arange(len(texts)), self.config.confidence).loss
        for name, draws in edits.items():
            each = [
                text_divergence(self.joined.dense, texts, on_texts(deltas, len(texts)), strength)
                for deltas in draws
            ]
            found[name] = dataclasses.asdict(band(np.mean(each, axis=0)))
        return found

    def _series(self, draws: Sequence[Answers], band: Callable[[np.ndarray], Figure]) -> Report:
        """Figures at every strength, averaged over draws before they are averaged over pairs."""
        other = np.mean([each.other for each in draws], axis=0)
        chances = np.mean([np.exp(each.log_probs) for each in draws], axis=0)
        return {
            "other_answer": [dataclasses.asdict(band(row)) for row in other],
            "flipped": _flipped(draws),
            "probability_a": chances[..., 0].mean(axis=1).tolist(),
            "probability_b": chances[..., 1].mean(axis=1).tolist(),
            "draws": [each.other.mean(axis=1).tolist() for each in draws] if len(draws) > 1 else [],
        }

    def _reverse(self, answers: Mapping[str, Sequence[Answers]], strength: float) -> Report:
        """Change of B's probability and of the margin at one strength, in both models."""
        at, zero = self.strengths.index(strength), self.strengths.index(0.0)
        change = {}
        for name, key in (("dense", OURS), ("sparse", SPARSE)):
            found = answers[key][0]
            change[f"{name}_probability"] = float(np.mean(found.other[at] - found.other[zero]))
            change[f"{name}_margin"] = float(np.mean(found.margin[at] - found.margin[zero]))
        dense = change["dense_margin"]
        return change | {"sparse_share": change["sparse_margin"] / dense if dense else float("nan")}

    def _pairs(self, found: Answers, strength: float) -> list[Report]:
        """B's probability on each pair's prompt A before and after, for the page's examples."""
        at, zero = self.strengths.index(strength), self.strengths.index(0.0)
        return [
            {"before": float(before), "after": float(after)}
            for before, after in zip(found.other[zero], found.other[at], strict=True)
        ]


def _flipped(draws: Sequence[Answers]) -> list[float]:
    """The share of pairs where B's answer is the likelier one, at every strength, averaged over draws."""
    return [float(share) for share in np.mean([each.other > 0.5 for each in draws], axis=(0, 2))]

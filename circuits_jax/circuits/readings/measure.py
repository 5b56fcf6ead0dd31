"""Can an edge be told by a rule on tokens?  Its effect, and what is kept of it (docs/method.md, "Readings").

An edge's effect is the rise of the task loss when it alone is removed from the circuit.  With the edge acting
only at the tokens that a reading selects, `recovery` of the effect is kept; acting only elsewhere, `inverse`.
A report is plain data: dicts, lists, numbers.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from circuits_jax.circuits.ablation.pairs import PairBatch
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.circuits.readings.acting import ActingEdges
from circuits_jax.circuits.readings.rules import (
    EdgeRule,
    Words,
    coverage,
    edge_name,
    most_deviating,
    most_frequent,
    random_sets,
    selected_by,
    selected_ids,
)
from circuits_jax.config import ReadingsConfig
from circuits_jax.model.model import Model
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.tables import Report

NEARLY = 0.05  # of the effect: a smaller set that scores less by so little is preferred

Given = EdgeRule | Mapping[int, Sequence[int]]
"""A user's rules: a function, or {place in `Circuit.edges`: token ids} of some edges."""


class Kept(NamedTuple):
    """What is kept of an edge's effect, in nats or as shares of it: arrays [S], one entry a selection.

    Attributes:
      effect: The effect, one number.
      recovery: What is kept when the edge acts at the selected tokens only.
      inverse: What is kept when it acts elsewhere only.
    """

    effect: float
    recovery: np.ndarray
    inverse: np.ndarray

    @property
    def score(self) -> np.ndarray:
        """How well each selection tells the edge: all of the effect, at best."""
        return np.minimum(self.recovery, self.effect - self.inverse)

    def shares(self) -> "Kept":
        """The same as shares of the effect."""
        return Kept(1.0, self.recovery / self.effect, self.inverse / self.effect)


class EdgeReader:
    """Reads the edges of one circuit.

    Args:
      circuit: Cut from `model`, with means of `attn.y` too.
      model: The full model.
      words: Its tokens.
      splits: Training pairs, on which default readings are chosen, and test pairs, on which all are judged;
        of one length.
      config: Sizes and thresholds.
    """

    def __init__(
        self,
        circuit: Circuit,
        model: Model,
        words: Words,
        splits: tuple[PairBatch, PairBatch],
        config: ReadingsConfig,
    ):
        self.circuit, self.config, self._words = circuit, config, words
        self._train, self._test = splits
        self._run = ActingEdges(circuit, model)

    def effect(self, edge: int) -> float:
        """Rise of the task loss on test pairs, in nats, when the edge alone is removed."""
        (without,) = self._run.losses(edge, [np.zeros(self._test.tokens.shape, bool)], self._test)
        return float(without - self._whole)

    @functools.cached_property
    def _whole(self) -> float:
        """The circuit's loss on test pairs: that of any of its edges acting everywhere."""
        return float(self._run.losses(0, [np.ones(self._test.tokens.shape, bool)], self._test)[0])

    def check(self, rules: Given) -> None:
        """Raises ConfigError if a user's rule for an edge selects none of the tokens that it is judged on."""
        for edge in range(len(self.circuit.edges)):
            given = self._given(edge, rules)
            if given is None or given[0].any():
                continue
            named = f" ({', '.join(map(repr, self._words.texts(given[1])))})" if given[1] else ""
            raise ConfigError(
                f"the reading of {edge_name(self.circuit, edge)} selects none of the tokens of the "
                f"{self._test.size} test pairs{named}; name tokens that their prompts hold"
            )

    def read(self, edge: int, rules: Given | None = None) -> Report:
        """The reading of one edge, and whether it passes.

        Args:
          edge: Its place in `Circuit.edges`.
          rules: A user's, if any.

        Returns:
          rule: "default" or "given";
          ids, tokens: that it selects, as ids and as text: a default one's in the order of their deviation, a
            function's those of the test prompts, the most frequent first;
          coverage; recovery, inverse and score, as shares of the effect;
          random, random_coverage: the best score of `readings.draws` random sets, and their mean coverage;
            None where the reading fails without them, or there are not as many;
          random_sets: how many there are; None where it fails without them;
          passes: never where there are fewer random sets than it has to beat.
        """
        config, given = self.config, None if rules is None else self._given(edge, rules)
        where, ids = given or self._default(edge)
        kept = self._kept(edge, [where], self._test).shares()
        found = {"recovery": kept.recovery, "inverse": kept.inverse, "score": kept.score}
        row: Report = {"rule": "given" if given else "default", "ids": ids, "tokens": self._words.texts(ids)}
        row |= {"coverage": coverage(self._test, where), **{key: float(x[0]) for key, x in found.items()}}
        row |= {"random": None, "random_coverage": None, "random_sets": None, "passes": False}
        if row["score"] >= config.recovery and row["coverage"] <= config.coverage:
            rng = np.random.default_rng([config.seed, edge])
            sets = random_sets(self._test, where, config.draws, rng)
            row["random_sets"] = len(sets)
            if len(sets) == config.draws:
                row["random"] = self._best_score(edge, sets)
                row["random_coverage"] = float(np.mean([coverage(self._test, each) for each in sets]))
                row["passes"] = row["score"] > row["random"]
        return row

    def _given(self, edge: int, rules: Given) -> tuple[np.ndarray, list[int]] | None:
        """The test tokens that a user's rule selects, bool [N, 2, T], and their ids; None if it says nothing
        of the edge."""
        if callable(rules):
            where = selected_by(self._test, rules, edge_name(self.circuit, edge))
            return None if where is None else (where, most_frequent(self._test, where))
        return (selected_ids(self._test, rules[edge]), list(rules[edge])) if edge in rules else None

    def _default(self, edge: int) -> tuple[np.ndarray, list[int]]:
        """The same of the default reading: of the sets of ids where the source deviates most, the smallest
        that scores nearly as well on training pairs as the best of them."""
        deviations = self._run.deviations(edge, self._train)
        sets = most_deviating(self._train, deviations, self.config.coverage)
        pairs = self._train.first(self.config.choose_pairs)
        kept = self._kept(edge, [selected_ids(pairs, ids) for ids in sets], pairs)
        ids = sets[int(np.argmax(kept.score >= kept.score.max() - NEARLY * abs(kept.effect)))]
        return selected_ids(self._test, ids), ids

    def _best_score(self, edge: int, selections: Sequence[np.ndarray]) -> float:
        """The best score of the selections on test pairs, as a share of the effect.

        No score is above its recovery, so that few have to be measured acting elsewhere too.
        """
        nowhere = np.zeros(self._test.tokens.shape, bool)
        without, whole, *only = self._run.losses(edge, [nowhere, ~nowhere, *selections], self._test)
        recovery, best = (without - np.array(only)) / (without - whole), -np.inf
        for place in np.argsort(-recovery, kind="stable"):
            if recovery[place] <= best:
                break
            (elsewhere,) = self._run.losses(edge, [~selections[place]], self._test)
            best = max(best, min(recovery[place], (elsewhere - whole) / (without - whole)))
        return float(best)

    def _kept(self, edge: int, selections: Sequence[np.ndarray], pairs: PairBatch) -> Kept:
        """What is kept of the edge's effect on `pairs` with each selection, bool [N, 2, T], in nats."""
        nowhere = np.zeros(pairs.tokens.shape, bool)
        asked = [nowhere, ~nowhere, *selections, *(~where for where in selections)]
        without, whole, *rest = self._run.losses(edge, asked, pairs)
        recovery, inverse = np.split(without - np.array(rest), 2)
        return Kept(float(without - whole), recovery, inverse)

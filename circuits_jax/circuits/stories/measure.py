"""Do the claims of a story hold?  Interventions on the whole model, beside the same on other nodes.

A figure comes from test pairs, with an interval over their templates.  A claim passes if the figure meets its
bound and beats its control (`controls`; docs/method.md, "Stories").

Letters in shapes: N pairs, T tokens, S sets of nodes.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.circuits.ablation.donors import donated, other_prompt
from circuits_jax.circuits.ablation.pairs import PairBatch, pair_difference
from circuits_jax.circuits.ablation.recording import recorded
from circuits_jax.circuits.audit.intervals import ClusteredIntervals, Figure, pair_accuracies, pair_flips
from circuits_jax.circuits.audit.verdict import judge
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.circuits.masks import Masks
from circuits_jax.circuits.pruning.probes import BLOCK, shared_prober
from circuits_jax.circuits.pruning.runner import replicate
from circuits_jax.circuits.readings.rules import Words, selected_ids
from circuits_jax.circuits.stories import controls
from circuits_jax.circuits.stories.story import COMPARE, PROMPTS, Claim, Story, Where
from circuits_jax.model.model import Model
from circuits_jax.model.sites import FINAL, node_sites
from circuits_jax.model.taps import mix
from circuits_jax.model.transformer import Transformer
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.tables import Report

RANDOM_PAIRS = 64  # that each random set is measured on


class StoryMeasurer:
    """Measures the claims of stories of one circuit on pairs.

    Args:
      circuit: Cut from `model`.
      model: The full model, which the interventions are made on.
      pairs: N pairs.
      intervals: Over the templates of the pairs.
      words: The model's tokens; None if it has no tokenizer, and claims name tokens by id.
      seed: Of the random nodes.
    """

    def __init__(
        self,
        circuit: Circuit,
        model: Model,
        pairs: PairBatch,
        intervals: ClusteredIntervals,
        words: Words | None,
        seed: int,
    ):
        self._circuit, self._model, self._pairs = circuit, model, pairs
        self._intervals, self._words, self._seed = intervals, words, seed
        self._widths = node_sites(model.config, FINAL in circuit.means)
        devices = tuple(jax.devices())
        self._params = replicate(dict(model.device_params), devices)
        self._prober = shared_prober(model.network, "auto", devices, _changed)

    def measure(self, story: Story) -> list[list[Report]]:
        """For each role the figures of its claims.

        Returns:
          For each claim: value, low, high: its figure and interval; before: the same without the
          intervention, or None where it would be 0; control: what it is held against (`controls`), and
          whether that is beaten; holds: whether the bound is met; clear: whether all of the interval is on
          the same side of it; passes: whether it holds and beats its control.

        Raises:
          ConfigError: for a token that is not known, or positions that no test prompt has.
        """
        return [
            [
                self._claim(claim, f"claim {place + 1} of role {role.name!r}", [self._seed, number, place])
                for place, claim in enumerate(role.claims)
            ]
            for number, role in enumerate(story.roles)
        ]

    def _claim(self, claim: Claim, name: str, seed: list[int]) -> Report:
        where = self.positions(claim.where, name)
        if claim.do == COMPARE:
            return self._compared(claim, where, name)
        candidates = self._candidates(claim, where)
        (after,) = self._answers(claim, [claim.nodes], where, slice(None))
        figure = self._intervals.rate(self._figure(claim, self._plain, after))
        if claim.do == "swap":
            rest = controls.others(claim.nodes, candidates)
            (swapped,) = self._answers(claim, [rest], where, slice(None))
            control = controls.rest_control(
                claim, float(self._figure(claim, self._plain, swapped).mean()), len(rest)
            )
        else:
            few, rng = slice(RANDOM_PAIRS), np.random.default_rng(seed)
            sets = controls.random_nodes(claim.nodes, candidates, rng, self._circuit.nodes)
            drawn = self._answers(claim, sets, where, few)
            random = [float(self._figure(claim, self._plain[few], each).mean()) for each in drawn]
            control = controls.random_control(claim, figure.value, random)
        before = None
        if claim.figure != "flips":
            before = float(self._figure(claim, self._plain, self._plain).mean())
        return _report(claim, figure, control) | {"before": before}

    def _compared(self, claim: Claim, where: np.ndarray, name: str) -> Report:
        than = ~where & self._within() if claim.than is None else self.positions(claim.than, name)
        ranks, differences, active = self._ranks(claim, where & ~than, than, name)
        known = ~np.isnan(ranks[claim.nodes[0].site][:, 0])
        intervals = ClusteredIntervals(self._intervals.clusters[known], self._intervals.confidence)
        figure = intervals.rate(_mean_rank(ranks, claim.nodes)[known])
        control = controls.rank_control(claim, differences, active)
        return _report(claim, figure, control) | {"before": None}

    def positions(self, where: Where, name: str) -> np.ndarray:
        """The positions of the pairs' prompts that are meant, bool [N, 2, T].

        Raises:
          ConfigError: if there are none, or a token is not known.
        """
        tokens, last = np.asarray(self._pairs.tokens), np.asarray(self._pairs.last)[:, None, None]
        place = np.arange(tokens.shape[-1])
        found = self._within()
        if where.tokens:
            found = found & selected_ids(self._pairs, self._ids(where.tokens, name))
        if where.prompt:
            found = found & (np.arange(2) == PROMPTS.index(where.prompt))[:, None]
        if where.at == "earlier":
            found = found & (place < last)
        elif where.at == "last":
            found = found & (place == last)
        elif where.at == "differ":
            found = found & (tokens[:, :1] != tokens[:, 1:])
        if not found.any():
            raise ConfigError(f"{name} is of positions that none of the {len(tokens)} test pairs has")
        return found

    def _ids(self, tokens: Sequence[str | int], name: str) -> list[int]:
        if self._words is not None:
            return [i for each in tokens for i in self._words.ids_of(each, name)]
        if wrong := [each for each in tokens if isinstance(each, str)]:
            raise ConfigError(f"{name} names {wrong[0]!r}, and this model has no tokenizer; give ids")
        return [int(each) for each in tokens]

    def _within(self) -> np.ndarray:
        return np.repeat(self._pairs.within()[:, None], 2, axis=1)

    @functools.cached_property
    def _plain(self) -> np.ndarray:
        """The model's logit differences, [N, 2]: nothing is set anywhere."""
        nowhere = np.zeros(self._pairs.tokens.shape, np.float32)
        return self._prober.differences(self._params, [(self._item((), ()), (*self._pairs, nowhere))])[0]

    def _answers(
        self, claim: Claim, sets: Sequence[controls.Nodes], where: np.ndarray, part: slice
    ) -> list[np.ndarray]:
        """Logit differences of some of the pairs after the intervention, once for each set of nodes."""
        data = tuple(np.asarray(each)[part] for each in (*self._pairs, np.asarray(where, np.float32)))
        values = None if claim.do == "swap" else claim.values
        return self._prober.differences(self._params, [(self._item(nodes, values), data) for nodes in sets])

    def _item(self, nodes: controls.Nodes, given: Sequence[float | None] | None) -> Masks:
        """What is done to `nodes`, as the program takes it: set to values, None the mean, or swapped."""
        chosen = {site: np.zeros(width, np.float32) for site, width in self._widths.items()}
        values = {site: np.zeros(width, np.float32) for site, width in self._widths.items()}
        for node in nodes:
            chosen[node.site][node.index] = 1
        for node, value in zip(nodes, [] if given is None else given, strict=given is not None):
            mean = self._circuit.means[node.site][node.index]
            values[node.site][node.index] = mean if value is None else value
        return {"chosen": chosen, "values": values, "swap": np.asarray(given is None)}

    def _figure(self, claim: Claim, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """The claim's figure of each pair, [N]."""
        if claim.figure == "flips":
            return pair_flips(before, after)
        if claim.figure == "right":
            return pair_accuracies(after)
        return ((after > 0) if claim.figure == "A" else (after < 0)).mean(axis=-1)

    def _candidates(self, claim: Claim, where: np.ndarray) -> Masks:
        """The nodes that an intervention may change, {site: bool [width]}: of a swap those that differ
        between the prompts of a pair at these positions, else those that are not 0 at all of them."""
        found = {site: np.zeros(self._widths[site], bool) for site in _sites(claim)}
        for part, seen in self._recorded(tuple(found)):
            for site, x in seen.items():
                changed = (x - x[:, ::-1] if claim.do == "swap" else x) != 0
                found[site] |= changed[where[part]].any(axis=0)
        return found

    def _ranks(
        self, claim: Claim, where: np.ndarray, than: np.ndarray, name: str
    ) -> tuple[Masks, Masks, Masks]:
        """How often each node is higher at `where` than at `than` in a pair, {site: [N, width]}, NaN where a
        pair has no such positions; its mean there minus that at `than`, over the other pairs, {site:
        [width]}; and which nodes are not 0 at all of them, {site: bool [width]}.

        Raises:
          ConfigError: if no pair has both, or pairs of one template alone do.
        """
        ranks = {site: np.full((len(where), self._widths[site]), np.nan) for site in _sites(claim)}
        active = {site: np.zeros(self._widths[site], bool) for site in ranks}
        differences = {site: np.zeros(self._widths[site]) for site in ranks}
        both = np.asarray(where.any(axis=(1, 2)) & than.any(axis=(1, 2)))
        if len(np.unique(self._intervals.clusters[both])) < 2:
            raise ConfigError(
                f"{name} compares positions that pairs of {'one template' if both.any() else 'no template'} "
                "have together; it takes two templates or more"
            )
        for part, seen in self._recorded(tuple(ranks)):
            for site, x in seen.items():
                active[site] |= (x[where[part] | than[part]] != 0).any(axis=0)
                for pair in np.flatnonzero(both[part]):
                    number = part.start + pair
                    there, elsewhere = x[pair][where[number]], x[pair][than[number]]
                    ranks[site][number] = _rank(there, elsewhere)
                    differences[site] += (there.mean(axis=0) - elsewhere.mean(axis=0)) / both.sum()
        return ranks, differences, active

    def _recorded(self, sites: tuple[str, ...]) -> Iterator[tuple[slice, dict[str, np.ndarray]]]:
        """Activations of the model, a block of pairs at a time: {site: [pairs, 2, T, width]}."""
        tokens = np.asarray(self._pairs.tokens)
        rows = tokens.reshape(-1, tokens.shape[-1])
        everything = tuple(self._widths)  # so that it is one program
        for part, records in recorded(self._model, rows, everything, 2 * BLOCK):
            pairs = slice(part.start // 2, part.stop // 2)
            yield (
                pairs,
                {site: records[site].reshape(-1, *tokens.shape[1:], self._widths[site]) for site in sites},
            )


def _report(claim: Claim, figure: Figure, control: Report) -> Report:
    """The outcome of a claim, its figure beside its control."""
    judged = judge(claim.words, figure, claim.bound, claim.at_most)
    return {
        "value": figure.value,
        "low": figure.low,
        "high": figure.high,
        "control": control,
        "holds": bool(judged.passed),
        "clear": bool(judged.clear),
        "passes": bool(judged.passed) and control["beaten"],
    }


def _sites(claim: Claim) -> tuple[str, ...]:
    return tuple(dict.fromkeys(node.site for node in claim.nodes))


def _rank(higher: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """P(one of `higher` [P, width] > one of `lower` [Q, width]), ties half, for every channel: [width]."""
    above = np.zeros(higher.shape[1])
    for one in higher:
        above += (one > lower).mean(axis=0) + 0.5 * (one == lower).mean(axis=0)
    return above / len(higher)


def _mean_rank(ranks: Masks, nodes: controls.Nodes) -> np.ndarray:
    return np.mean([ranks[node.site][:, node.index] for node in nodes], axis=0)


def _changed(network: Transformer, params: Any, item: Masks, data: tuple) -> jax.Array:
    """Logit differences [N, 2] where the chosen nodes have, at some positions, other values.

    Args:
      network, params: The full model.
      item: `chosen`, {node site: [width]}, 1 on the nodes; `swap`: whether their values are those of the
        pair's other prompt; else they are `values`, {node site: [width]}.
      data: The arrays of a PairBatch, and float32 [N, 2, T], 1 where it is done.
    """
    pairs, chosen = PairBatch(*data[:3]), item["chosen"]
    shape = (2 * len(pairs.tokens), pairs.tokens.shape[-1])

    def others() -> dict[str, jax.Array]:
        return donated(network, params, tuple(chosen), pairs.last, other_prompt(pairs))

    def constants() -> dict[str, jax.Array]:
        kinds = jax.eval_shape(others)
        return {
            site: jnp.broadcast_to(x, (*shape, len(x))).astype(kinds[site].dtype)
            for site, x in item["values"].items()
        }

    there = data[3].reshape(shape)[..., None]
    kept = {site: 1 - there * mask for site, mask in chosen.items()}
    return pair_difference(network, params, pairs, mix(kept, jax.lax.cond(item["swap"], others, constants)))

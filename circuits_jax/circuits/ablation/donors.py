"""Removed nodes that take their values from another prompt (docs/method.md, "Ablation").

Such a prompt is a *donor*: under "counterfactual" ablation the pair's other prompt, under "resample" a random
prompt of another pair.  Pairs that carry donors are ablated with their values; what runs them needs no more.
Letters in shapes: N pairs, T tokens.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.circuits.ablation.means import Means
from circuits_jax.circuits.ablation.pairs import PairBatch, pair_batches
from circuits_jax.config import ABLATIONS
from circuits_jax.config.checks import check_choice
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.tasks.task import Pairs


class Donors(NamedTuple):
    """The prompt that each prompt's swapped nodes take their values from.

    Attributes:
      tokens: int [N, 2, T], for prompts A and B.
      last: int [N, 2], position of their last token.
    """

    tokens: Any
    last: Any


class DonatedPairs(NamedTuple):
    """Contrast pairs whose removed nodes take their donors' values; the first three fields are PairBatch's.

    Attributes:
      tokens, last, answers: See `PairBatch`.
      donors: Of each prompt.
    """

    tokens: Any
    last: Any
    answers: Any
    donors: Donors

    @property
    def size(self) -> int:
        """N."""
        return len(self.last)

    def first(self, count: int) -> "DonatedPairs":
        """The first `count` pairs."""
        return jax.tree.map(lambda x: x[:count], self)


AnyPairs = PairBatch | DonatedPairs


def pairs_under(ablation: str, splits: Sequence[Pairs], n_ctx: int, seed: int) -> list[AnyPairs]:
    """Each split as `pair_batches` gives it, with donors where that ablation needs them.

    Args:
      ablation: Of ABLATIONS.
      splits: Pairs.
      n_ctx: The model's context.
      seed: Decides the donors of "resample".

    Raises:
      ConfigError: for another ablation.
    """
    check_choice("prune.ablation", ablation, ABLATIONS)
    batches = pair_batches(splits, n_ctx)
    if ablation == "counterfactual":
        return [DonatedPairs(*batch, other_prompt(batch)) for batch in batches]
    if ablation == "resample":
        seeds = [len(batches) * seed + place for place in range(len(batches))]
        drawn = [another_pair(*each) for each in zip(batches, seeds, strict=True)]
        return [DonatedPairs(*batch, donors) for batch, donors in zip(batches, drawn, strict=True)]
    return list(batches)


def other_prompt(pairs: PairBatch) -> Donors:
    """Interchange: each prompt's donor is the pair's other prompt."""
    return Donors(pairs.tokens[:, ::-1], pairs.last[:, None].repeat(2, axis=1))


def another_pair(pairs: PairBatch, seed: int) -> Donors:
    """Resample ablation: each prompt's donor is a random prompt of another random pair."""
    tokens, last = np.asarray(pairs.tokens), np.asarray(pairs.last)
    rng, count = np.random.RandomState(seed), len(last)
    pair = (np.arange(count)[:, None] + rng.randint(1, max(count, 2), (count, 2))) % count
    return Donors(tokens[pair, rng.randint(0, 2, (count, 2))], last[pair])


def donated(
    network: Transformer, params: Params, sites: Collection[str], last: jax.Array, donors: Donors
) -> dict[str, jax.Array]:
    """What each prompt's donor gives it: {site: [2N, T, width]}, the full model's activations on the donors.

    Values are aligned with the prompt's at the *last* token, since prompts of different pairs differ in
    length (those of one pair do not).  Where the donor is shorter, its first token stands for all before it.

    Args:
      network, params: The full model.
      sites: Which to give.
      last: int [N], position of the last token of the prompts that receive.
      donors: Of the prompts.
    """
    length, ends = donors.tokens.shape[-1], donors.last.reshape(-1)
    _, records = network.apply(params, donors.tokens.reshape(-1, length), record=tuple(sites), at=ends)
    shift = ends - jnp.repeat(last, 2)
    places = jnp.clip(jnp.arange(length) + shift[:, None], 0, ends[:, None])[..., None]
    return {site: jnp.take_along_axis(x, places, axis=1) for site, x in records.items()}


def reference(
    network: Transformer, params: Params, sites: Collection[str], means: Means, pairs: AnyPairs
) -> Means:
    """What removed nodes of `pairs` are held at: {site: [width]}, or of donors [2N, T, width].

    Args:
      network, params: The full model, which runs on the donors.
      sites: Which to give.
      means: What stands in where the pairs have no donors.
      pairs: N pairs.
    """
    if isinstance(pairs, DonatedPairs):
        return donated(network, params, sites, pairs.last, pairs.donors)
    return means

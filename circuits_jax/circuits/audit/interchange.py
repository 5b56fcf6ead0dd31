"""Interventions on a full network: is the circuit what the model really uses? (docs/method.md, "Audit")

Each is a forward pass with a tap; `interventions` runs many of them in one compiled program.
Letters in shapes: N pairs, T tokens, R single prompts.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.circuits.ablation.pairs import PairBatch, pair_difference
from circuits_jax.circuits.masks import Masks, outside
from circuits_jax.model.taps import mix
from circuits_jax.model.transformer import Params, Transformer


class Donors(NamedTuple):
    """The prompt that each prompt's swapped nodes take their values from.

    Attributes:
      tokens: int [N, 2, T], for prompts A and B.
      last: int [N, 2], position of their last token.
    """

    tokens: Any
    last: Any


class Rows(NamedTuple):
    """Single prompts that all have the same two answers.

    Attributes:
      tokens: int [R, T].
      at: int [R], the position whose next token is asked for.
    """

    tokens: Any
    at: Any


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
      sites: Which to give.
      last: int [N], position of the last token of the prompts that receive.
    """
    length, ends = donors.tokens.shape[-1], donors.last.reshape(-1)
    _, records = network.apply(params, donors.tokens.reshape(-1, length), record=tuple(sites), at=ends)
    shift = ends - jnp.repeat(last, 2)
    places = jnp.clip(jnp.arange(length) + shift[:, None], 0, ends[:, None])[..., None]
    return {site: jnp.take_along_axis(x, places, axis=1) for site, x in records.items()}


def interchange(network: Transformer, params: Params, masks: Masks, pairs: PairBatch) -> jax.Array:
    """Interchange intervention: the share of prompts whose answer flips when nodes are swapped.

    Every node with mask 1 takes, at each position, its value on the pair's *other* prompt; the rest of the
    full model runs on.  An answer flips when the model, which preferred one of the two answers, now prefers
    the other.  With the circuit's masks most should flip, with those of the nodes outside hardly any.

    Args:
      network, params: The full model.
      masks: {node site: [width], 1 on the nodes to swap}.
      pairs: N pairs; the two prompts of a pair are equally long, so positions correspond.
    """
    before = pair_difference(network, params, pairs)
    given = donated(network, params, masks, pairs.last, other_prompt(pairs))
    after = pair_difference(network, params, pairs, mix(outside(masks), given))
    return ((before > 0) != (after > 0)).mean()

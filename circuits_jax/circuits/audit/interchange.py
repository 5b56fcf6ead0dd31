"""Interventions on a full network: is the circuit what the model really uses? (docs/method.md, "Audit")

Each is a forward pass with a tap; `interventions` runs many of them in one compiled program.
Letters in shapes: N pairs, T tokens, R single prompts.
"""

from typing import Any, NamedTuple

import jax

from circuits_jax.circuits.ablation.donors import donated, other_prompt
from circuits_jax.circuits.ablation.pairs import PairBatch, pair_difference
from circuits_jax.circuits.masks import Masks, outside
from circuits_jax.model.taps import mix
from circuits_jax.model.transformer import Params, Transformer


class Rows(NamedTuple):
    """Single prompts that all have the same two answers.

    Attributes:
      tokens: int [R, T].
      at: int [R], the position whose next token is asked for.
    """

    tokens: Any
    at: Any


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

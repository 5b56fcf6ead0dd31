"""Is the circuit what the model really uses?  Interventions on the full model (METHOD section 7)."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from circuits_jax.circuits.ablation import Means, pair_difference
from circuits_jax.circuits.calibration import calibrate
from circuits_jax.model.taps import mix
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.tasks.metrics import right_margin

Masks = Mapping[str, jax.Array]


def outside(masks: Masks) -> dict[str, jax.Array]:
    """Masks of the nodes that `masks` leaves out."""
    return {site: 1 - jnp.asarray(mask) for site, mask in masks.items()}


def loss_without(
    model: Transformer, params: Params, means: Means, masks: Masks, pairs: tuple[jax.Array, ...]
) -> jax.Array:
    """Necessity: the task loss of the full model with only the circuit's nodes held at their means.

    The loss is calibrated on these very pairs, which favours the model: what is left cannot solve the task
    under any scale and shift.

    Args:
      model, params: The full model.
      means: {node site: [width]}.
      masks: {node site: [width], 1 on the circuit's nodes}.
      pairs: (tokens int [N, 2, T], last int [N], answers int [N, 2]).
    """
    difference = pair_difference(model, params, *pairs, tap=mix(outside(masks), means))
    return calibrate(difference)[2]


def interchange(model: Transformer, params: Params, masks: Masks, pairs: tuple[jax.Array, ...]) -> jax.Array:
    """Interchange intervention: the share of prompts whose answer flips when nodes are swapped.

    Every node with mask 1 takes, at each position, its value on the pair's *other* prompt; the rest of the
    full model runs on.  A prompt counts as flipped when the other prompt's answer has the larger logit.
    With the circuit's masks most answers should flip, with those of the nodes outside hardly any.

    Args:
      model, params: The full model.
      masks: {node site: [width], 1 on the nodes to swap}.
      pairs: As above; the two prompts of a pair are equally long, so positions correspond.
    """
    tokens = pairs[0]
    _, records = model.apply(params, tokens.reshape(-1, tokens.shape[-1]), record=tuple(masks))
    swapped = {site: _other_prompt(x) for site, x in records.items()}
    difference = pair_difference(model, params, *pairs, tap=mix(outside(masks), swapped))
    return (right_margin(difference) < 0).mean()


def _other_prompt(x: jax.Array) -> jax.Array:
    """[2N, T, width] with the two rows of each pair exchanged."""
    return x.reshape(-1, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)

"""Hybrid passes: one model up to a site, the other from there on.  All are the one forward pass, with taps.

Letters in shapes: S bridge sites, B batch, T tokens, V vocabulary.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from circuits_jax.model.taps import Tap, replace
from circuits_jax.model.transformer import Params, Transformer

# (place of the site, what is trained, the value that enters there, what is given) -> a scalar.
SiteLoss = Callable[[int, Any, jax.Array, Any], jax.Array]


def logits_from(
    model: Transformer, params: Params, tokens: jax.Array, site: str, value: jax.Array
) -> jax.Array:
    """Logits [B, T, V] of the pass that has `value` [B, T, width] at `site`.

    What lies below the site reaches no output, so that a compiler removes it: under `jit` the pass costs what
    is above the site.
    """
    return model.apply(params, tokens, tap=replace({site: value}))[0]


def enter(sites: Sequence[str], place: jax.Array, value: jax.Array) -> Tap:
    """`replace` at the site of number `place`, which may be traced: one compilation serves all sites."""

    def tap(site: str, x: jax.Array) -> jax.Array:
        if site not in sites:
            return x
        return jnp.where(sites.index(site) == place, value.astype(x.dtype), x)

    return tap


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def sum_over_sites(loss: SiteLoss, trained: Any, values: jax.Array, given: Any) -> jax.Array:
    """sum over i of loss(i, trained, values[i], given), differentiable in `trained` and `values` [S, ...].

    Where it is differentiated, each site's gradient is taken together with its loss, one site after another,
    and the gradients of `trained` are added up as they come: memory holds the activations of one hybrid pass
    at a time, and nothing is computed twice, as it would be by `jax.checkpoint` (docs/performance.md, "A
    bridge step").
    """
    return sum(loss(place, trained, values[place], given) for place in range(len(values)))


def _forward(loss: SiteLoss, trained: Any, values: jax.Array, given: Any) -> tuple[jax.Array, Any]:
    total, gradients, by_value = jnp.zeros(()), jax.tree.map(jnp.zeros_like, trained), []
    for place in range(len(values)):
        # A site begins when the sum so far is there, or a scheduler would begin them all.  The data itself
        # must say so: compilers drop optimization_barrier before they schedule.
        value = values[place] + 0 * total
        site_loss = functools.partial(loss, place)
        found, (gradient, at_value) = jax.value_and_grad(site_loss, argnums=(0, 1))(trained, value, given)
        total, gradients = total + found, jax.tree.map(jnp.add, gradients, gradient)
        by_value.append(at_value)
    return total, (gradients, jnp.stack(by_value))


def _backward(loss: SiteLoss, gradients: Any, cotangent: jax.Array) -> tuple[Any, Any, None]:
    del loss
    trained, values = jax.tree.map(lambda leaf: leaf * cotangent, gradients)
    return trained, values, None


sum_over_sites.defvjp(_forward, _backward)

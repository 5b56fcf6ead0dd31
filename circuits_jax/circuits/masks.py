"""Learned masks over nodes: a step forward, a sigmoid's slope backward (METHOD section 6)."""

from functools import partial

import jax
import jax.numpy as jnp

from circuits_jax.config import ModelConfig, PruneConfig
from circuits_jax.model import sites

Taus = dict[str, jax.Array]


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def heaviside(tau: jax.Array, temperature: float) -> jax.Array:
    """1 where tau >= 0, else 0; its gradient is that of sigmoid(tau / temperature)."""
    return (tau >= 0).astype(tau.dtype)


def _forward(tau: jax.Array, temperature: float) -> tuple[jax.Array, jax.Array]:
    return heaviside(tau, temperature), tau


def _backward(temperature: float, tau: jax.Array, grad: jax.Array) -> tuple[jax.Array]:
    s = jax.nn.sigmoid(tau / temperature)
    return (grad * s * (1 - s) / temperature,)


heaviside.defvjp(_forward, _backward)


def init_taus(config: ModelConfig, prune: PruneConfig, rng: jax.Array) -> Taus:
    """{node site: float32 [width]} drawn from N(init_mean, init_std), clamped."""
    widths = sites.node_sites(config)
    keys = jax.random.split(rng, len(widths))
    return {
        site: clamp(prune.init_mean + prune.init_std * jax.random.normal(key, (width,)))
        for key, (site, width) in zip(keys, widths.items(), strict=True)
    }


def clamp(tau: jax.Array) -> jax.Array:
    """tau within [-1, 1]."""
    return jnp.clip(tau, -1, 1)

"""Learned masks over nodes: a step forward, a sigmoid's slope backward (docs/method.md, "Pruning")."""

import jax
import jax.numpy as jnp

from circuits_jax.config import ModelConfig, PruneConfig
from circuits_jax.model import sites

Taus = dict[str, jax.Array]


@jax.custom_vjp
def heaviside(tau: jax.Array, temperature: jax.Array | float) -> jax.Array:
    """1 where tau >= 0, else 0.

    The backward pass uses the slope of sigmoid(tau / temperature), for tau only.
    """
    del temperature
    return (tau >= 0).astype(tau.dtype)


def _forward(tau: jax.Array, temperature: jax.Array | float) -> tuple[jax.Array, tuple]:
    return heaviside(tau, temperature), (tau, temperature)


def _backward(saved: tuple, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    tau, temperature = saved
    s = jax.nn.sigmoid(tau / temperature)
    return grad * s * (1 - s) / temperature, jnp.zeros_like(temperature)


heaviside.defvjp(_forward, _backward)


def init_taus(config: ModelConfig, prune: PruneConfig, rng: jax.Array, final: bool = False) -> Taus:
    """{node site: float32 [width]} drawn from N(init_mean, init_std), clamped.

    Args:
      config: The model's.
      prune: The distribution.
      rng: Key.
      final: Whether the final residual stream has nodes too.
    """
    widths = sites.node_sites(config, final)
    keys = jax.random.split(rng, len(widths))
    return {
        site: clamp(prune.init_mean + prune.init_std * jax.random.normal(key, (width,)))
        for key, (site, width) in zip(keys, widths.items(), strict=True)
    }


def clamp(tau: jax.Array) -> jax.Array:
    """tau within [-1, 1]."""
    return jnp.clip(tau, -1, 1)

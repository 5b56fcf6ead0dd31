"""AbsTopK with the removed nodes as constant competitors (docs/method.md, "Ablation").

Ablation acts after AbsTopK, so a removed node still decides, by its true magnitude, which kept nodes pass.
To close that side channel the removed nodes enter the competition at their mean *before* it.  No second
forward pass is needed: the same parameters run in a model without AbsTopK, and the tap, which then sees
what competes, applies AbsTopK itself.
"""

import dataclasses
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.circuits.ablation.means import Means, in_parts, mean_over_batches
from circuits_jax.config import ModelConfig
from circuits_jax.model import sites
from circuits_jax.model.abs_topk import abs_top_k
from circuits_jax.model.model import Model
from circuits_jax.model.taps import Tap
from circuits_jax.model.transformer import Params, Transformer


def without_topk(network: Transformer) -> Transformer:
    """The same network without AbsTopK: its taps see what would compete."""
    return Transformer(dataclasses.replace(network.config, activation_fraction=None))


def constant_competitors(
    config: ModelConfig, masks: Mapping[str, jax.Array], entry: Means, means: Means
) -> Tap:
    """A tap for the model without AbsTopK: AbsTopK among constant competitors, then mean ablation.

    Args:
      config: Of the model as it is, with AbsTopK.
      masks: {node site: [width], 1 on kept nodes}.
      entry: {node site: [width]}, what a removed node enters the competition with.
      means: {node site: [width]}, what it is held at afterwards.
    """

    def tap(site: str, x: jax.Array) -> jax.Array:
        if site not in masks:
            return abs_top_k(x, sites.kept_at(config, site))
        mask = masks[site].astype(x.dtype)
        competing = mask * x + (1 - mask) * entry[site].astype(x.dtype)
        return mask * abs_top_k(competing, sites.kept_at(config, site)) + (1 - mask) * means[site].astype(
            x.dtype
        )

    return tap


def entry_means(model: Model, batches: Iterable[np.ndarray]) -> dict[str, jax.Array]:
    """Mean of every node *before* AbsTopK, over all positions of `batches` (int [B, T]): {site: [width]}."""
    nodes, network = sites.node_sites(model.config, final=True), without_topk(model.network)

    @jax.jit
    def means_of(params: Params, tokens: jax.Array) -> dict[str, jax.Array]:
        seen: dict[str, jax.Array] = {}

        def tap(site: str, x: jax.Array) -> jax.Array:
            if site in nodes:
                seen[site] = x.astype(jnp.float32).mean(axis=(0, 1))
            return abs_top_k(x, sites.kept_at(model.config, site))

        network.apply(params, tokens, tap=tap)
        return seen

    parts = in_parts(model.config, batches)
    return mean_over_batches(means_of(model.device_params, jnp.asarray(part)) for part in parts)

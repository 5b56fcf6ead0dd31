"""Bridges between the residual streams of a dense and a sparse model (docs/method.md, "Bridges").

One bridge stands at each *bridge site*: before every attention half, before every MLP half and after the
last, 2 L + 1 in all.  Its encoder makes a sparse residual of a dense one, its decoder goes back.

Letters in shape comments: S bridge sites, B batch, T tokens, E width of the dense stream, D of the sparse.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from circuits_jax.config import ENCODERS, BridgeConfig, ModelConfig
from circuits_jax.config.checks import check_choice
from circuits_jax.config.mesh import DATA, FSDP, MODEL
from circuits_jax.model import sites
from circuits_jax.model.abs_topk import abs_top_k
from circuits_jax.model.taps import Tap
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.model.wiring import halves
from circuits_jax.storage.errors import BridgeError
from circuits_jax.training.mesh.partition import PartitionRule

BridgeParams = Mapping[str, Any]
# What the two models and their bridges are called, in parameter trees and in reports.
DENSE, SPARSE, BRIDGES = "dense", "sparse", "bridges"
FIRST_THRESHOLD = 0.01  # of the learned-threshold encoder
SOFTNESS = 0.25  # width, in thresholds, of the step through which a threshold's gradient passes


@dataclasses.dataclass(frozen=True)
class Bridge:
    """Which models are joined, and how; the parameters are apart.

    Attributes:
      dense, sparse: The two models' configurations.
      encoder: Of ENCODERS.
      keep: Entries that an "abs_top_k" encoder keeps, and that the raw embedding is cut to as a target; None
        for all.
    """

    dense: ModelConfig
    sparse: ModelConfig
    encoder: str
    keep: int | None

    @property
    def sites(self) -> tuple[str, ...]:
        """The bridge sites, in forward order."""
        return bridge_sites(self.sparse)


def make_bridge(dense: ModelConfig, sparse: ModelConfig, config: BridgeConfig) -> Bridge:
    """The bridge that joins two models.

    Raises:
      BridgeError: if they differ in depth, context or vocabulary, or an encoder would keep nothing.
    """
    for name, what in (("n_layer", "layers"), ("n_ctx", "tokens of context"), ("vocab_size", "tokens")):
        here, there = getattr(sparse, name), getattr(dense, name)
        if here != there:
            raise BridgeError(
                f"the dense model has {there} {what}, the sparse one {here} (model.{name}); bridges join "
                f"models that agree in it: set --config.model.{name}={there}, or name another dense model"
            )
    if config.fraction is not None:
        keep = int(config.fraction * sparse.d_model)
    else:
        keep = sparse.kept_activations("resid_post_mlp", sparse.d_model)
        if keep is None:
            keep = sparse.kept_activations("resid_post_attn", sparse.d_model)
    if keep == 0:
        name, fraction = "bridge.fraction", config.fraction
        if fraction is None:
            name, fraction = "model.activation_fraction", sparse.activation_fraction
        raise BridgeError(
            f"{name} is {fraction:g}, which keeps none of the {sparse.d_model} channels of the sparse "
            f"model's stream; give 1/{sparse.d_model} or more"
        )
    return Bridge(dense, sparse, config.encoder, keep)


def bridge_sites(config: ModelConfig) -> tuple[str, ...]:
    """The residual stream before every half, and after the last: 2 L + 1 sites, in forward order."""
    return (*(half.stream for half in halves(config.n_layer)), sites.FINAL)


def init_bridge(bridge: Bridge, rng: jax.Array) -> BridgeParams:
    """Fresh parameters, kernels uniform in +-1/sqrt(inputs), biases 0.

    Returns:
      {"encoder", "decoder"}: "kernel" [S, inputs, outputs] and "bias" [S, outputs]; with the encoder
      "threshold" also "log_threshold" [S, D].
    """
    encoder, decoder = jax.random.split(rng)
    dense, sparse = bridge.dense.d_model, bridge.sparse.d_model
    count = len(bridge.sites)
    params = {
        "encoder": _linear(encoder, count, dense, sparse),
        "decoder": _linear(decoder, count, sparse, dense),
    }
    if bridge.encoder == "threshold":
        params["encoder"]["log_threshold"] = jnp.full((count, sparse), jnp.log(FIRST_THRESHOLD))
    return params


def bridge_rules() -> tuple[PartitionRule, ...]:
    """Partition rules of the parameters: kernels are split in both widths, vectors are whole."""
    return (
        PartitionRule(r"bridges/(encoder|decoder)/kernel", (None, FSDP, MODEL)),
        PartitionRule(r"bridges/(encoder|decoder)/(bias|log_threshold)"),
    )


def at_site(params: BridgeParams, place: int | jax.Array) -> BridgeParams:
    """The bridge of one site (S = 1), the site's place in forward order being static or traced."""
    return jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, place, 1), params)


def encode(bridge: Bridge, params: BridgeParams, dense: jax.Array) -> jax.Array:
    """Dense residuals [S, B, T, E] -> sparse ones, float32 [S, B, T, D], each site by its own bridge."""
    x = _apply(params["encoder"], dense)
    if bridge.encoder == "abs_top_k":
        return abs_top_k(x, bridge.keep, axes={1: (DATA, FSDP), -1: (MODEL,)})
    check_choice("bridge.encoder", bridge.encoder, ENCODERS)
    return _above(x, jnp.exp(params["encoder"]["log_threshold"])[:, None, None, :])


def decode(params: BridgeParams, sparse: jax.Array) -> jax.Array:
    """Sparse residuals [S, B, T, D] -> dense ones, float32 [S, B, T, E]."""
    return _apply(params["decoder"], sparse)


def encoder_target(bridge: Bridge, sparse: jax.Array) -> jax.Array:
    """What encoders are to give, [S, B, T, D]: the sparse stream, the raw embedding cut by AbsTopK first."""
    return sparse.at[0].set(abs_top_k(sparse[0], bridge.keep))


def residuals(
    model: Transformer, params: Params, tokens: jax.Array, tap: Tap | None = None
) -> tuple[jax.Array, jax.Array]:
    """One forward pass: (logits float32 [B, T, V], the residuals at the bridge sites [S, B, T, width])."""
    names = bridge_sites(model.config)
    logits, records = model.apply(params, tokens, tap=tap, record=names)
    return logits, jnp.stack([records[name].astype(jnp.float32) for name in names])


def _above(x: jax.Array, threshold: jax.Array) -> jax.Array:
    """`x` where its magnitude is at least `threshold`, else 0; the step's gradient is a sigmoid's."""
    margin = jnp.abs(x) / threshold - 1
    soft = jax.nn.sigmoid(margin / SOFTNESS)
    hard = (margin >= 0).astype(x.dtype)
    return x * (soft + lax.stop_gradient(hard - soft))


def _apply(linear: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
    product = jnp.einsum("sbti,sio->sbto", x.astype(jnp.float32), linear["kernel"])
    return product + linear["bias"][:, None, None, :]


def _linear(rng: jax.Array, count: int, inputs: int, outputs: int) -> dict[str, jax.Array]:
    bound = inputs**-0.5
    kernel = jax.random.uniform(rng, (count, inputs, outputs), jnp.float32, -bound, bound)
    return {"kernel": kernel, "bias": jnp.zeros((count, outputs))}

"""The loss of bridges (docs/method.md, "Bridges"), term by term, and what stops where.

Letters in shapes: S bridge sites, B batch, T tokens, V vocabulary, n likeliest tokens.  Sums run over sites,
means over tokens.

    term              trains
    ce                sparse model
    kl                sparse model
    nmse_encode       encoders
    nmse_decode       decoders, sparse model below the site
    dense_to_sparse   encoders, sparse model above the site
    sparse_to_dense   decoders, sparse model below the site

The dense model never trains, and the sparse one is no target that gives way: the encoder's is stopped.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from circuits_jax.bridges.hybrid import SiteLoss, logits_from, sum_over_sites
from circuits_jax.bridges.model import (
    BRIDGES,
    DENSE,
    SPARSE,
    Bridge,
    decode,
    encode,
    encoder_target,
    residuals,
)
from circuits_jax.config import BridgeConfig
from circuits_jax.model.parameters import merged
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.training.step import token_losses

_SMALLEST_DEVIATION = 1e-8


class Teacher(NamedTuple):
    """What logits are compared with.

    Attributes:
      log_probs: float32 [B, T, V], or [B, T, n] renormalised.
      tokens: int [B, T, n] where only the likeliest are compared, else None.
    """

    log_probs: jax.Array
    tokens: jax.Array | None


def make_teacher(logits: jax.Array, top_n: int | None = None) -> Teacher:
    """The teacher with `logits` [B, T, V], whole or of its `top_n` likeliest tokens."""
    logits = lax.stop_gradient(logits)
    if top_n is None or top_n >= logits.shape[-1]:
        return Teacher(jax.nn.log_softmax(logits), None)
    logits, tokens = lax.top_k(logits, top_n)
    return Teacher(jax.nn.log_softmax(logits), tokens)


def kl(teacher: Teacher, logits: jax.Array) -> jax.Array:
    """KL(teacher || softmax(logits)) of each token in nats, float32 [B, T].

    With n likeliest tokens both are restricted to them and renormalised.
    """
    if teacher.tokens is not None:
        logits = jnp.take_along_axis(logits, teacher.tokens, axis=-1)
    gap = teacher.log_probs - jax.nn.log_softmax(logits)
    return jnp.sum(jnp.exp(teacher.log_probs) * gap, axis=-1)


def nmse(predicted: jax.Array, target: jax.Array) -> jax.Array:
    """Normalised squared error of each site, float32 [S], from [S, B, T, width].

    Each token's squared error over the squared deviation of its target from the batch's mean, the latter
    stopped; averaged over tokens.  1 is what the mean itself has.
    """
    deviation = jnp.sum((target - target.mean(axis=(1, 2), keepdims=True)) ** 2, axis=-1)
    error = jnp.sum((predicted - target) ** 2, axis=-1)
    return jnp.mean(error / (lax.stop_gradient(deviation) + _SMALLEST_DEVIATION), axis=(1, 2))


@dataclasses.dataclass(frozen=True)
class BridgeLoss:
    """The loss of two models and their bridges.

    Attributes:
      bridge: Which models are joined.
      dense, sparse: The two models.
      config: Coefficients, and how KLs are taken.
    """

    bridge: Bridge
    dense: Transformer
    sparse: Transformer
    config: BridgeConfig

    def __call__(
        self, params: Any, windows: jax.Array, frozen: Any
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(the weighted sum of the terms, each term) on `windows`, int [B, T + 1].

        Args:
          params: {"bridges", and "sparse" if that is trained}.
          frozen: {"dense", and "sparse": those of its parameters that are not trained, if there are any}.
        """
        terms = self.terms(params, windows, frozen)
        return sum(getattr(self.config, name) * term for name, term in terms.items()), terms

    def terms(self, params: Any, windows: jax.Array, frozen: Any) -> dict[str, jax.Array]:
        """Each term, a scalar, by its coefficient's name; hybrid terms are left out where that is 0."""
        frozen = lax.stop_gradient(frozen)
        bridges, tokens = params[BRIDGES], windows[:, :-1]
        trained, still = params.get(SPARSE, {}), frozen.get(SPARSE, {})
        dense_logits, dense = residuals(self.dense, frozen[DENSE], tokens)
        sparse_logits, sparse = residuals(self.sparse, merged(trained, still), tokens)
        teacher = make_teacher(dense_logits, self.config.top_n)
        encoded, decoded = encode(self.bridge, bridges, dense), decode(bridges, sparse)
        target = lax.stop_gradient(encoder_target(self.bridge, sparse))
        terms = {
            "ce": token_losses(sparse_logits, windows[:, 1:]).mean(),
            "kl": kl(teacher, sparse_logits).mean(),
            "nmse_encode": nmse(encoded, target).sum(),
            "nmse_decode": nmse(decoded, dense).sum(),
        }
        if self.config.dense_to_sparse:
            terms["dense_to_sparse"] = sum_over_sites(
                _averaged(self._sparse_above), trained, encoded, (teacher, tokens, still)
            )
        if self.config.sparse_to_dense:
            # One sum after the other too: neither their memory nor their collectives should overlap.
            decoded += 0 * lax.stop_gradient(terms.get("dense_to_sparse", 0.0))
            terms["sparse_to_dense"] = sum_over_sites(
                _averaged(self._dense_above), (), decoded, (teacher, tokens, frozen[DENSE])
            )
        return terms

    def rows(self, params: Any, windows: jax.Array, frozen: Any) -> dict[str, jax.Array]:
        """The terms without the squared errors, of each row alone, [B]; hybrids' KLs are averaged over sites.

        Nothing is summed over rows, so that devices that split them need not wait for each other.
        """
        bridges, trained, still = params[BRIDGES], params.get(SPARSE, {}), frozen.get(SPARSE, {})
        tokens, places = windows[:, :-1], range(len(self.bridge.sites))
        dense_logits, dense = residuals(self.dense, frozen[DENSE], tokens)
        sparse_logits, sparse = residuals(self.sparse, merged(trained, still), tokens)
        teacher = make_teacher(dense_logits, self.config.top_n)
        encoded, decoded = encode(self.bridge, bridges, dense), decode(bridges, sparse)
        given = (teacher, tokens, still)
        up = down = jnp.zeros(tokens.shape)
        for place in places:  # in turn, as in training
            up += self._sparse_above(place, trained, encoded[place] + 0 * up[..., None], given)
        given = (teacher, tokens, frozen[DENSE])
        for place in places:
            down += self._dense_above(place, (), decoded[place] + 0 * (up + down)[..., None], given)
        found = {
            "ce": token_losses(sparse_logits, windows[:, 1:]),
            "kl": kl(teacher, sparse_logits),
            "dense_to_sparse": up / len(places),
            "sparse_to_dense": down / len(places),
        }
        return {name: each.mean(axis=1) for name, each in found.items()}

    def _sparse_above(self, place: int, trained: Params, value: jax.Array, given: Any) -> jax.Array:
        """KL [B, T] of the hybrid that is sparse above a site, where `value` [B, T, D] enters."""
        teacher, tokens, still = given
        params = merged(trained, still)
        return kl(teacher, logits_from(self.sparse, params, tokens, self.bridge.sites[place], value))

    def _dense_above(self, place: int, trained: tuple, value: jax.Array, given: Any) -> jax.Array:
        """KL [B, T] of the hybrid that is dense above a site, where `value` [B, T, E] enters."""
        del trained
        teacher, tokens, params = given
        return kl(teacher, logits_from(self.dense, params, tokens, self.bridge.sites[place], value))


def _averaged(divergence: Callable[..., jax.Array]) -> SiteLoss:
    return lambda *args: divergence(*args).mean()

"""What an edit does to a model's answers, strength by strength, and to unrelated text.

Letters in shapes: K strengths, N pairs, T tokens, M texts.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.bridges.losses import kl, make_teacher
from circuits_jax.bridges.steering.writes import SiteDeltas
from circuits_jax.circuits.ablation.pairs import PairBatch
from circuits_jax.model.model import Model
from circuits_jax.model.taps import add
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.storage.errors import BridgeError

Deltas = Mapping[str, np.ndarray]  # site -> what is added there at strength 1, float32 [rows, T, width]


class Answers(NamedTuple):
    """A model's answers on prompt A.

    Attributes:
      margin: l[answer B] - l[answer A], float32 [K, N].
      log_probs: Of answer A and answer B among all tokens, float32 [K, N, 2].
    """

    margin: np.ndarray
    log_probs: np.ndarray

    @property
    def other(self) -> np.ndarray:
        """Probability of B's answer against A's, [K, N]."""
        return 1 / (1 + np.exp(-np.asarray(self.margin, np.float64)))


def at_sites(edit: SiteDeltas, sites: Sequence[str]) -> dict[str, np.ndarray]:
    """An edit by the names of its sites."""
    return {sites[place]: delta for place, delta in edit.items()}


def check_strengths(deltas: Deltas, strengths: Sequence[float]) -> None:
    """Raises BridgeError if an edit so strong has a norm that float32 cannot hold."""
    widest = max(
        float(np.max(np.sum(np.square(delta, dtype=np.float64), axis=-1))) for delta in deltas.values()
    )
    limit = float(np.finfo(np.float32).max)
    for strength in strengths:
        if strength**2 * widest > limit or not np.isfinite(strength):
            most = (limit / widest) ** 0.5
            raise BridgeError(
                f"steering strength {strength:g} overflows: its edit's squared norm exceeds what float32 "
                f"holds; give steer.strengths below {most:.3g}"
            )


def sweep(model: Model, prompts: PairBatch, deltas: Deltas, strengths: Sequence[float]) -> Answers:
    """The model's answers on prompt A with `strength x deltas` added.

    Raises:
      BridgeError: if a strength overflows.
    """
    check_strengths(deltas, strengths)
    data = (prompts.tokens[:, 0], prompts.last, prompts.answers)
    margin, log_probs = _sweep(
        model.network, model.device_params, deltas, jnp.asarray(strengths, jnp.float32), *data
    )
    if not np.isfinite(margin).all():
        first = strengths[int(np.argmin(np.isfinite(margin).all(axis=1)))]
        raise BridgeError(f"steering strength {first:g} overflows in the model; give smaller steer.strengths")
    return Answers(np.asarray(margin), np.asarray(log_probs))


def text_divergence(model: Model, texts: np.ndarray, deltas: Deltas, strength: float) -> np.ndarray:
    """KL in nats a token between the model and itself with `strength x deltas` added, float32 [M].

    Args:
      texts: int [M, T].
      deltas: Of as many rows and tokens.
    """
    check_strengths(deltas, [strength])
    return np.asarray(_divergence(model.network, model.device_params, deltas, jnp.float32(strength), texts))


def on_texts(deltas: Deltas, count: int) -> dict[str, np.ndarray]:
    """The edits of the pairs, in turn, for `count` texts of the prompts' length."""
    return {site: np.resize(delta, (count, *delta.shape[1:])) for site, delta in deltas.items()}


def flip_strength(strengths: Sequence[float], other: np.ndarray) -> float | None:
    """The smallest strength above 0 at which B's answer is the likelier one on most pairs, or None.

    Where it is the likelier one at strength 0 already, there is nothing to flip: None.

    Args:
      strengths: [K], increasing, 0 among them.
      other: Probability of B's answer, [K, N].
    """
    flipped = {strength: np.mean(row > 0.5) > 0.5 for strength, row in zip(strengths, other, strict=True)}
    if flipped[0.0]:
        return None
    return next((float(strength) for strength in flipped if strength > 0 and flipped[strength]), None)


@functools.partial(jax.jit, static_argnums=0)
def _sweep(
    model: Transformer, params: Params, deltas: Deltas, strengths: jax.Array, *prompts: jax.Array
) -> tuple[jax.Array, jax.Array]:
    tokens, last, answers = prompts

    def run(strength: jax.Array) -> tuple[jax.Array, jax.Array]:
        tap = add({site: strength * delta for site, delta in deltas.items()})
        logits, _ = model.apply(params, tokens, tap=tap, at=last)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), answers, axis=-1)
        return chosen[:, 1] - chosen[:, 0], chosen

    return jax.lax.map(run, strengths)


@functools.partial(jax.jit, static_argnums=0)
def _divergence(
    model: Transformer, params: Params, deltas: Deltas, strength: jax.Array, texts: jax.Array
) -> jax.Array:
    before, _ = model.apply(params, texts)
    after, _ = model.apply(params, texts, tap=add({site: strength * delta for site, delta in deltas.items()}))
    return kl(make_teacher(before), after).mean(axis=-1)

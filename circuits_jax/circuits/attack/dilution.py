"""Context dilution: an average over the context falls when the context grows.

See docs/method.md, "Dilution attack".

A value channel of a head passes y = sum_s a_s v_s, its attention's average of what it finds.  Tokens added
to the prompt take a share of the attention whatever they hold.  With the attention of the short prompt (the
sink's included) summing to 1, r what each added token would have beside it and u that token's value,

    y' = (y + sum r u) / (1 + sum r),

which for a uniform head is y N / (N + n): one over the number of attended tokens.  The circuit says which
channels; r and u are read there by token id on the short prompts, and the prediction for the model is its
run on the *short* prompts with those channels set to y'.  Nothing in it has seen a long prompt.

Letters in shape comments: P pairs, T tokens, H heads, A channels of all heads, V vocabulary.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.model.attention import attention_weights, split_heads
from circuits_jax.model.model import Model
from circuits_jax.model.parameters import SINK, get
from circuits_jax.model.sites import parse
from circuits_jax.model.taps import mix
from circuits_jax.model.transformer import Params
from circuits_jax.model.wiring import layers_of
from circuits_jax.storage.errors import CircuitError
from circuits_jax.tasks.metrics import logit_difference
from circuits_jax.tasks.task import Pairs

Channels = dict[str, np.ndarray]  # {"0.attn.y": [..., A]}


@dataclasses.dataclass(frozen=True)
class Head:
    """A head of the circuit, at the last token of the prompts.

    Attributes:
      layer, head: Which.
      attended: How many tokens it averages over: 1 / sum a_s^2 of attention brought to sum 1, averaged.
      share: Its part of `score`.
    """

    layer: int
    head: int
    attended: float
    share: float


@dataclasses.dataclass(frozen=True)
class Reading:
    """What one layer's heads do with each token, from a run on the short prompts.

    Attributes:
      average: float32 [2P, A], the attention that the last token pays to a token, the mean over the prompt.
      relative: [V, A], that to a token id over the average; 1 where the id was not met.
      values: [V, A], the mean value of a token id; of all tokens where it was not met.
      attended: [A], how many tokens a channel's head averages over.
    """

    average: np.ndarray
    relative: np.ndarray
    values: np.ndarray
    attended: np.ndarray


@dataclasses.dataclass(frozen=True)
class ModelRun:
    """One run of the full model: `difference` l_A - l_B [P, 2], and y {site: [2P, A]} at the last token."""

    difference: np.ndarray
    y: Channels


class Dilution:
    """Predicts and measures what longer prompts do to the averages that a circuit passes."""

    def __init__(
        self,
        model: Model,
        masks: Mapping[str, np.ndarray],
        means: Mapping[str, np.ndarray],
        length: int,
    ):
        """Args:
          model: The full model.
          masks: {node site: [width]}, 1 on the circuit's nodes.
          means: {node site: [width]}, what the others are held at in the circuit.
          length: All prompts are padded to this many tokens, so that they share a compilation.

        Raises:
          CircuitError: if the circuit has no value channel.
        """
        self._network, self._params, self.length = model.network, model.device_params, length
        self._circuit = mix(*({s: jnp.asarray(x) for s, x in tree.items()} for tree in (masks, means)))
        heads = [layer.attention.output for layer in layers_of(model.config.n_layer)]
        values = {wire.carried: np.asarray(masks[wire.source]) > 0 for wire in heads}
        self.channels = {site: mask for site, mask in values.items() if mask.any()}
        if not self.channels:
            raise CircuitError("the circuit keeps no value channel of any head: it averages nothing")
        self._run = jax.jit(self._forward)
        self._slope = jax.jit(jax.grad(lambda delta, *rest: self._forward(*rest, delta)[0].sum()))
        self._attend = jax.jit(self._attention, static_argnames="alone")

    def run(self, pairs: Pairs, y: Channels | None = None, channels: Channels | None = None) -> ModelRun:
        """The full model on `pairs`, `channels` (the circuit's by default) set to `y` at the last token."""
        difference, found = self._run(*self._arguments(pairs, y, channels))
        return ModelRun(np.asarray(difference), {site: np.asarray(x) for site, x in found.items()})

    def slopes(self, pairs: Pairs) -> Channels:
        """Slope of l_A - l_B in the circuit's y at the last token, {site: [A]}, averaged over prompts."""
        *rest, delta = self._arguments(pairs, None, None)
        found = self._slope(delta, *rest)
        return {
            site: np.asarray(x) * self.channels[site] / (2 * len(pairs.last)) for site, x in found.items()
        }

    def read(self, pairs: Pairs, alone: bool = False) -> dict[str, Reading]:
        """Attention and values of the circuit's layers on the short prompts `pairs`, by site and token id.

        Args:
          alone: Whether the circuit runs alone, all else ablated; otherwise the full model runs.
        """
        tokens, ends = self._rows(pairs)
        found = jax.device_get(self._attend(self._params, tokens, ends, alone=alone))
        counts = (ends + 1)[:, None]
        seen = np.arange(self.length) < counts
        vocab, size = self._network.config.vocab_size, self._network.config.d_head
        readings = {}
        for site, (attention, values) in found.items():  # [2P, H, T], [2P, T, A]
            average = attention.sum(-1) / counts
            relative = (attention / average[..., None]).swapaxes(1, 2)
            whole = attention.sum(-1) ** 2 / (attention**2).sum(-1)
            readings[site] = Reading(
                average=np.repeat(average, size, axis=1),
                relative=np.repeat(_by_token(relative[seen], tokens[seen], vocab), size, axis=1),
                values=_by_token(values[seen], tokens[seen], vocab),
                attended=np.repeat(whole.mean(0), size),
            )
        return readings

    def _arguments(self, pairs: Pairs, y: Channels | None, channels: Channels | None) -> tuple[Any, ...]:
        """What `_forward` takes; without `y` nothing is set."""
        tokens, ends = self._rows(pairs)
        none = {site: np.zeros(len(mask), np.float32) for site, mask in self.channels.items()}
        if y is None:
            y = {site: np.broadcast_to(zero, (len(tokens), len(zero))) for site, zero in none.items()}
            where = {site: np.zeros_like(mask) for site, mask in self.channels.items()}
        else:
            where = self.channels if channels is None else channels
        return self._params, (tokens, ends, pairs.answers), y, where, none

    def _forward(
        self,
        params: Params,
        prompts: tuple[jax.Array, jax.Array, jax.Array],
        values: Channels,
        where: Channels,
        delta: Channels,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(l_A - l_B, y at the last token), with y set to `values` `where` true there, and `delta` added."""
        tokens, ends, answers = prompts
        here = (jnp.arange(tokens.shape[1]) == ends[:, None])[..., None]

        def tap(site: str, x: jax.Array) -> jax.Array:
            if site not in values:
                return x
            x = jnp.where(here & where[site], values[site][:, None], x)
            return x + here * delta[site]

        logits, records = self._network.apply(params, tokens, tap=tap, record=tuple(values), at=ends)
        y = {site: jnp.take_along_axis(x, ends[:, None, None], axis=1)[:, 0] for site, x in records.items()}
        return logit_difference(logits, answers), y

    def _attention(
        self, params: Params, tokens: jax.Array, ends: jax.Array, alone: bool
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Each site's attention of the last token [2P, H, T], and values [2P, T, A]."""
        config, found = self._network.config, {}
        halves = [
            attention
            for attention, _ in layers_of(config.n_layer)
            if attention.output.carried in self.channels
        ]
        record = [site for half in halves for site in half.units]
        _, records = self._network.apply(params, tokens, tap=self._circuit if alone else None, record=record)
        for half in halves:
            q, k = (split_heads(records[site], config.heads) for site in half.gates)
            sink = get(params, SINK, parse(half.values)[0]) if config.attention_sink else None
            weights, _ = attention_weights(q, k, sink)
            last = jnp.take_along_axis(weights, ends[:, None, None, None], axis=2)[:, :, 0]
            found[half.output.carried] = last, records[half.values]
        return found

    def _rows(self, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
        """Prompts A, B, A, B, ... [2P, length] and the position of their last token [2P]."""
        tokens = pairs.tokens.reshape(-1, pairs.tokens.shape[-1])
        padding = ((0, 0), (0, self.length - tokens.shape[1]))
        return np.pad(tokens, padding), np.repeat(pairs.last, 2)


def predict(readings: Mapping[str, Reading], short: ModelRun, added: np.ndarray) -> Channels:
    """y' of every channel, {site: [2P, A]}, when `added[p, t]` tokens of id t join prompt p."""
    diluted = {}
    for site, reading in readings.items():
        mass = reading.average * (added @ reading.relative)
        value = reading.average * (added @ (reading.relative * reading.values))
        diluted[site] = ((short.y[site] + value) / (1 + mass)).astype(np.float32)
    return diluted


def contrast(y: Channels, slopes: Channels) -> Channels:
    """What each channel does to tell A from B: slope x (mean y on A - mean y on B), {site: [A]}."""
    return {site: slope * (y[site][::2] - y[site][1::2]).mean(0) for site, slope in slopes.items()}


def score(y: Channels, slopes: Channels) -> float:
    """What the circuit's averages do to tell A from B, to first order, in logits."""
    return float(sum(part.sum() for part in contrast(y, slopes).values()))


def rank_heads(readings: Mapping[str, Reading], y: Channels, slopes: Channels, size: int) -> list[Head]:
    """The heads with circuit channels, the one that does most to tell A from B first; `size` is d_head."""
    whole, heads = score(y, slopes), []
    for site, part in contrast(y, slopes).items():
        for head, share in enumerate(part.reshape(-1, size).sum(1)):
            if share != 0:
                attended = float(readings[site].attended[head * size])
                heads.append(Head(parse(site)[0], head, attended, float(share / whole)))
    return sorted(heads, key=lambda head: -abs(head.share))


def inserted(short: Pairs, longer: Pairs, vocab_size: int) -> np.ndarray:
    """How many tokens of each id `longer` has more than `short`, float32 [2P, V]."""
    return _counts(longer, vocab_size) - _counts(short, vocab_size)


def _counts(pairs: Pairs, vocab_size: int) -> np.ndarray:
    ends = np.repeat(pairs.last, 2)
    rows = pairs.tokens.reshape(len(ends), -1)
    return np.stack(
        [np.bincount(row[: end + 1], minlength=vocab_size) for row, end in zip(rows, ends, strict=True)]
    ).astype(np.float32)


def _by_token(values: np.ndarray, tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    """Mean of `values` [n, width] over the places of each id in `tokens` [n]; over all where it has none."""
    counts = np.bincount(tokens, minlength=vocab_size)[:, None]
    sums = np.zeros((vocab_size, values.shape[1]), np.float32)
    np.add.at(sums, tokens, values)
    return np.where(counts > 0, sums / np.maximum(counts, 1), values.mean(0))

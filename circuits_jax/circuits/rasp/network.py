"""Two compiled programs in one network of the library's own architecture, and what is asked of it.

The embedding is exact: tracr's layers are ours with `norm="none"`, ReLU, added positions and no sink.  The
two programs share nothing but the tokens: each has residual channels, heads and neurons of its own, which lie
in random order.  The larger key size is the head size of both, so queries of the other are scaled to keep
tracr's scores, q k / sqrt(key size).
"""

import dataclasses
import functools

import numpy as np

from circuits_jax.circuits.ablation.pairs import PairBatch
from circuits_jax.circuits.rasp.weights import Compiled, CompiledHalf
from circuits_jax.config import ModelConfig
from circuits_jax.model import parameters
from circuits_jax.model.model import Model
from circuits_jax.model.parameters import build_tree

# Logit difference of the two answers where the compiled output is exact: what tracr's one-hot outputs would
# need a gain for, too, to be an answer and no draw.
GAIN = 4.0


@dataclasses.dataclass(frozen=True)
class Channels:
    """Where one program lies in the network: its residual channels, heads and neurons, in its own order."""

    residual: np.ndarray
    heads: np.ndarray
    neurons: np.ndarray


@dataclasses.dataclass(frozen=True)
class Network:
    """A network that computes two programs, and a task of one of them.

    Attributes:
      compiled: What it was made of.
      model: The network.
      asked, beside: Where the two programs lie in it.
      answers: The token ids of the two answers, int [2].
    """

    compiled: Compiled
    model: Model
    asked: Channels
    beside: Channels
    answers: np.ndarray

    @functools.cached_property
    def inputs(self) -> np.ndarray:
        """Every input that is asked about, int32 [N, T]."""
        return self.compiled.inputs

    def pairs(self, count: int, seed: int) -> PairBatch:
        """Contrast pairs: an input with the first answer, one with the second.

        Every input occurs, as often as any other of its kind (up to one); what is paired with what is drawn.

        Args:
          count: Pairs at least; more where a kind has more inputs.
          seed: Of the draw.
        """
        rng = np.random.default_rng(seed)
        kinds = [np.flatnonzero(self.compiled.right == which) for which in (0, 1)]
        size = max(count, *map(len, kinds))
        repeated = [[rng.permutation(kind) for _ in range(-(-size // len(kind)))] for kind in kinds]
        chosen = np.stack([np.concatenate(each)[:size] for each in repeated], axis=1)
        return PairBatch(
            tokens=self.inputs[chosen],
            last=np.full(size, self.compiled.position, np.int32),
            answers=np.tile(self.answers, (size, 1)).astype(np.int32),
        )


def embed(compiled: Compiled, seed: int) -> Network:
    """The network of a compiled program and the one beside it; `seed` decides which channel is whose."""
    halves = (compiled.asked, compiled.beside)
    config = _config(compiled)
    rng = np.random.default_rng(seed)
    asked, beside = _deal(halves, config, rng)
    arrays = {p.name: np.zeros(p.shape, np.float32) for p in parameters.parameters(config)}
    for half, place in zip(halves, (asked, beside), strict=True):
        _place(arrays, half, place, config)
    tokens = len(compiled.tokens)
    answers = _unembed(arrays, compiled, (asked, beside), tokens)
    model = Model(config, build_tree(arrays.items()), source=f"the compiled program {compiled.name}")
    return Network(compiled, model, asked, beside, answers)


def _config(compiled: Compiled) -> ModelConfig:
    halves = (compiled.asked, compiled.beside)
    return ModelConfig(
        n_layer=max(len(half.kernels["query"]) for half in halves),
        d_model=sum(half.embedding.shape[1] for half in halves),
        n_ctx=len(compiled.asked.positions),
        vocab_size=len(compiled.tokens) + max(2, len(compiled.asked.outputs)) + _rows(compiled.beside),
        d_head=max(half.head_size for half in halves),
        n_head=sum(half.heads for half in halves),
        d_mlp=sum(half.kernels["mlp_in"].shape[2] for half in halves),
        norm="none",
        activation="relu",
        position="add",
        attention="causal" if compiled.causal else "full",
        attention_sink=False,
        bigram="none",
        logits_bias=True,
        activation_fraction=None,
    )


def _rows(half: CompiledHalf) -> int:
    return half.readout.shape[1]


def _deal(
    halves: tuple[CompiledHalf, CompiledHalf], config: ModelConfig, rng: np.random.Generator
) -> tuple[Channels, Channels]:
    """Residual channels, heads and neurons for either program, in random order."""
    first, second = halves
    parts = [
        (config.d_model, first.embedding.shape[1]),
        (config.heads, first.heads),
        (config.neurons, first.kernels["mlp_in"].shape[2]),
    ]
    orders = [np.split(rng.permutation(whole), [share]) for whole, share in parts]
    return Channels(*(order[0] for order in orders)), Channels(*(order[1] for order in orders))


def _place(arrays: dict[str, np.ndarray], half: CompiledHalf, place: Channels, config: ModelConfig) -> None:
    """Writes one program's weights to its channels."""
    arrays[parameters.TOKEN_EMBEDDING][: len(half.embedding), place.residual] = half.embedding
    arrays[parameters.POSITION_EMBEDDING][:, place.residual] = half.positions
    size = half.head_size
    columns = (place.heads[:, None] * config.d_head + np.arange(size)).ravel()
    scales = {"query": np.sqrt(config.d_head / size), "key": 1.0, "value": 1.0}
    for layer in range(len(half.kernels["query"])):
        kernel, bias = (arrays[f"{parameters.QKV.format(layer=layer)}/{leaf}"] for leaf in ("kernel", "bias"))
        for part, (name, scale) in enumerate(scales.items()):
            here = part * config.d_attn + columns
            kernel[np.ix_(place.residual, here)] = scale * half.kernels[name][layer]
            bias[here] = scale * half.biases[name][layer]
        for name, linear, rows, outputs in (
            ("attention_out", parameters.ATTENTION_OUT, columns, place.residual),
            ("mlp_in", parameters.MLP_IN, place.residual, place.neurons),
            ("mlp_out", parameters.MLP_OUT, place.neurons, place.residual),
        ):
            linear = linear.format(layer=layer)
            arrays[f"{linear}/kernel"][np.ix_(rows, outputs)] = half.kernels[name][layer]
            arrays[f"{linear}/bias"][outputs] = half.biases[name][layer]


def _unembed(
    arrays: dict[str, np.ndarray], compiled: Compiled, places: tuple[Channels, Channels], first: int
) -> np.ndarray:
    """Writes the unembedding of both outputs, from the id `first` on, and returns the two answers' ids.

    A number y is read by two rows, whose difference is GAIN at the first answer and -GAIN at the second.
    Symbols are read by tracr's own projection, a row each.
    """
    kernel, bias = arrays[parameters.UNEMBEDDING], arrays[parameters.LOGITS_BIAS]
    asked, beside = places
    readout = compiled.asked.readout
    if compiled.asked.outputs:
        ids = first + np.arange(readout.shape[1])
        kernel[np.ix_(asked.residual, ids)] = GAIN * readout
        answers = first + np.array([compiled.asked.outputs.index(answer) for answer in compiled.answers])
    else:
        a, b = compiled.answers
        answers = ids = first + np.arange(2)
        for row, sign in zip(ids, (1, -1), strict=True):
            kernel[asked.residual, row] = sign * GAIN / (a - b) * readout[:, 0]
            bias[row] = -sign * GAIN / 2 * (a + b) / (a - b)
    others = first + len(ids) + np.arange(_rows(compiled.beside))
    kernel[np.ix_(beside.residual, others)] = compiled.beside.readout
    return answers

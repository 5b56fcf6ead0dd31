"""Weights that do something else: what a planted circuit is buried in.

Everything that the circuit leaves free goes to one of two crowds, each with residual channels, heads and
neurons of its own:

- *noise* reaches the answers' logits, but reads nothing of the circuit: both prompts of a pair look alike
  to it (up to the norm, which all channels share);
- *echo* reads everything, the circuit's channels too, but leads to other tokens' logits only.

Neither can stand in for a planted node; both are active, and echo is even correlated with the answer.
"""

from collections.abc import Sequence

import numpy as np

from circuits_jax.circuits.circuit import Node
from circuits_jax.circuits.planted.draft import Draft
from circuits_jax.model.parameters import TOKEN_EMBEDDING, UNEMBEDDING, get
from circuits_jax.model.wiring import Half, layers_of

ECHO_SHARE = 1 / 3
FAN_IN = 4  # weights into a unit
FAN_OUT = 2  # weights out of a unit
EMBEDDED = 6  # distractor channels a token's embedding fills
READ_SCALE, WRITE_SCALE, EMBED_SCALE, BIAS_SCALE = 0.6, 0.25, 0.7, 0.2
LOGIT_SCALE = 0.4


def bury(
    draft: Draft, twins: Sequence[Sequence[int]], answers: Sequence[int], rng: np.random.Generator
) -> None:
    """Fills what `draft` has left free.

    Args:
      draft: A network with its circuit wired.
      twins: Groups of tokens that only the circuit may tell apart.
      answers: The answer tokens.
    """
    config = draft.config
    cut = int(ECHO_SHARE * len(draft.free_channels))
    echo, noise = draft.free_channels[:cut], draft.free_channels[cut:]
    _embed(draft, twins, rng)
    planted = list(draft.channels.values())
    for layer, (attention, mlp) in enumerate(layers_of(config.n_layer)):
        heads, neurons = draft.free_heads[layer], draft.free_neurons[layer]
        for crowd, reads, share in ((echo, planted + noise + echo, 0), (noise, noise, 1)):
            head_cut, neuron_cut = int(ECHO_SHARE * len(heads)), int(ECHO_SHARE * len(neurons))
            ours = (heads[:head_cut], heads[head_cut:])[share]
            _heads(draft, attention, ours, reads, crowd, rng)
            ours = (neurons[:neuron_cut], neurons[neuron_cut:])[share]
            units = [Node(mlp.values, index) for index in ours]
            _read(draft, units, reads, rng)
            _write(draft, units, crowd, rng)
    _unembed(draft, echo, noise, answers, rng)


def _embed(draft: Draft, twins: Sequence[Sequence[int]], rng: np.random.Generator) -> None:
    table = get(draft.params, TOKEN_EMBEDDING)
    for row in table:
        chosen = rng.choice(draft.free_channels, EMBEDDED, replace=False)
        row[chosen] = EMBED_SCALE * rng.standard_normal(EMBEDDED)
    for first, *others in twins:
        table[np.ix_(others, draft.free_channels)] = table[first, draft.free_channels]


def _heads(
    draft: Draft, half: Half, heads: list[int], reads: list[int], crowd: list[int], rng: np.random.Generator
) -> None:
    size = draft.config.d_head
    indices = [head * size + i for head in heads for i in range(size)]
    for site in half.units:
        _read(draft, [Node(site, index) for index in indices], reads, rng)
    _write(draft, [Node(half.values, index) for index in indices], crowd, rng)


def _read(draft: Draft, units: list[Node], reads: list[int], rng: np.random.Generator) -> None:
    for unit in units:
        kernel, bias, column = draft.inputs(unit)
        kernel[rng.choice(reads, FAN_IN, replace=False), column] = READ_SCALE * rng.standard_normal(FAN_IN)
        bias[column] = BIAS_SCALE * rng.standard_normal()


def _write(draft: Draft, units: list[Node], crowd: list[int], rng: np.random.Generator) -> None:
    for unit in units:
        kernel = draft.outputs(unit)["kernel"]
        chosen = rng.choice(crowd, FAN_OUT, replace=False)
        kernel[unit.index, chosen] = WRITE_SCALE * rng.standard_normal(FAN_OUT)


def _unembed(
    draft: Draft, echo: list[int], noise: list[int], answers: Sequence[int], rng: np.random.Generator
) -> None:
    kernel = get(draft.params, UNEMBEDDING)
    others = [token for token in range(draft.config.vocab_size) if token not in answers]
    for channels, tokens in ((echo, others), (noise, range(draft.config.vocab_size))):
        block = np.ix_(channels, list(tokens))
        kernel[block] = LOGIT_SCALE * rng.standard_normal(kernel[block].shape)

"""Weights that do something else: what a planted circuit is buried in.

Everything that the circuit leaves free goes to one of two crowds, each with residual channels, heads and
neurons of its own:

- *noise* reaches the answers' logits, but reads nothing of the circuit: both prompts of a pair look alike
  to it (up to the norm, which all channels share);
- *echo* reads everything, the circuit's channels too, but leads to other tokens' logits only.

Neither can stand in for a planted node; both are active, and echo is even correlated with the answer.

`superpose` then makes the circuit share what it lies in.  Noise writes into its residual channels, words
leave something there, its heads have further channels that read noise, and so, weakly, do its own units.
(Weak weights among those would be ways around: calibration scales up whatever follows the answer.)
"""

from collections.abc import Sequence

import numpy as np

from circuits_jax.circuits.circuit import Node
from circuits_jax.circuits.planted.draft import Draft
from circuits_jax.model.parameters import TOKEN_EMBEDDING, UNEMBEDDING, get
from circuits_jax.model.wiring import Half, halves, layers_of

ECHO_SHARE = 1 / 3
FAN_IN = 4  # weights into a unit
FAN_OUT = 2  # weights out of a unit
EMBEDDED = 6  # distractor channels a token's embedding fills
READ_SCALE, WRITE_SCALE, EMBED_SCALE, BIAS_SCALE = 0.6, 0.25, 0.7, 0.2
LOGIT_SCALE = 0.4
# Of what shares the circuit's channels; its own weights are 0.3 to 6.6.
SHARED_WRITE, SHARED_EMBED, SHARED_READ, STRAY = 0.03, 0.03, 0.06, 0.04


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


def superpose(draft: Draft, words: Sequence[int], rng: np.random.Generator) -> None:
    """Makes distractors share the circuit's channels and heads, after `bury`.

    Args:
      draft: A network with its circuit wired and buried.
      words: Tokens without a role in the circuit.
    """
    config, units = draft.config, dict.fromkeys(target for _, target in draft.edges)
    planted = list(draft.channels.values())
    noise = draft.free_channels[int(ECHO_SHARE * len(draft.free_channels)) :]
    table = get(draft.params, TOKEN_EMBEDDING)
    table[np.ix_(words, planted)] += SHARED_EMBED * rng.standard_normal((len(words), len(planted)))
    for layer, heads, neurons in zip(
        layers_of(config.n_layer), draft.free_heads, draft.free_neurons, strict=True
    ):
        for half, free, size in ((layer.attention, heads, config.d_head), (layer.mlp, neurons, 1)):
            ours = free[int(ECHO_SHARE * len(free)) :]
            for index in (item * size + i for item in ours for i in range(size)):
                kernel = draft.outputs(Node(half.values, index))["kernel"]
                kernel[index, rng.choice(planted)] = SHARED_WRITE * rng.standard_normal()
    writes = {half.write for half in halves(config.n_layer)}
    for unit in units:
        if unit.site not in writes:
            _share_unit(draft, unit, noise, rng)


def _share_unit(draft: Draft, unit: Node, noise: list[int], rng: np.random.Generator) -> None:
    """Weak weights from noise into a planted unit; noise in the other channels of its head."""
    values = {layer.attention.values for layer in layers_of(draft.config.n_layer)}
    kernel, _, column = draft.inputs(unit)
    kernel[rng.choice(noise, FAN_IN, replace=False), column] = STRAY * rng.standard_normal(FAN_IN)
    if ".attn." in unit.site:
        size = draft.config.d_head
        first = unit.index // size * size
        for index in range(first, first + size):
            kernel, _, column = draft.inputs(Node(unit.site, index))
            if index != unit.index and not kernel[:, column].any():
                chosen = rng.choice(noise, FAN_IN, replace=False)
                kernel[chosen, column] = SHARED_READ * rng.standard_normal(FAN_IN)
                if unit.site in values:
                    row = draft.outputs(unit)["kernel"][index]
                    row[rng.choice(noise, FAN_OUT, replace=False)] = WRITE_SCALE * rng.standard_normal(
                        FAN_OUT
                    )


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

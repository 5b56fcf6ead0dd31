"""What makes each node of a circuit fire: its activations in the full model, on corpus text and on prompts.

The model runs once per batch with its taps closed; only the kept nodes' columns leave the device.  What comes
out is plain data, ready for JSON.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.checks import check_positive
from circuits_jax.circuits.circuit import Circuit, Entry, Node
from circuits_jax.config import ModelConfig, from_dict
from circuits_jax.data.tokenizer import Tokenizer
from circuits_jax.errors import CircuitError
from circuits_jax.model.transformer import Params, Transformer
from circuits_jax.tasks.task import Pairs

Evidence = dict[str, Any]

# Attention looks back only, so a context shows more of what came before its peak than of what came after.
_SHARE_BEFORE_PEAK = 0.75


@dataclasses.dataclass(frozen=True)
class EvidenceOptions:
    """How much is shown; memory is about windows * n_ctx * nodes floats.

    Attributes:
      windows: Corpus windows read, evenly spaced over those given.
      batch: Rows of one forward pass.
      contexts: Contexts shown per node and sign.
      context_tokens: Tokens of one context.
      prompts: Task prompt pairs shown.
      words: Most weighty tokens listed per embedding channel.
    """

    windows: int = 64
    batch: int = 16
    contexts: int = 4
    context_tokens: int = 20
    prompts: int = 4
    words: int = 12

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check_positive(f"evidence.{field.name}", getattr(self, field.name))


def gather_evidence(
    circuit: Circuit,
    params: Params,
    tokenizer: Tokenizer,
    pairs: Pairs,
    windows: np.ndarray,
    options: EvidenceOptions | None = None,
) -> Evidence:
    """Statistics, corpus contexts and prompt activations of every kept node, in the full model.

    Args:
      circuit: Names the nodes and the model's configuration.
      params: The parameters of the model that the circuit was cut from.
      tokenizer: Gives the tokens' display text.
      pairs: Task pairs; the first few are shown.
      windows: int32 [M, n_ctx + 1] of corpus text.
      options: How much to show.

    Returns:
      A JSON-able dict: `pieces` {token id as a string: text}; `corpus` {windows, tokens} read; `prompts`, a
      list of {tokens: [A, B], answers: [of A, of B]}; `words` {channel as a string: {count, top: [[token,
      weight]]}}; and `nodes`, one per circuit node, in its order: {mean, std, min, max, active (share of
      corpus tokens where it is not zero), contexts: {positive, negative}, prompts: [[values on A, values on
      B]]}, where a context is {tokens, values, peak (its place in the context)}.  Four significant digits.

    Raises:
      CircuitError: if there are no windows, or a window or a prompt does not fit the circuit's model.
    """
    options = options or EvidenceOptions()
    config = from_dict(ModelConfig, circuit.model_config, "model")
    corpus = _sample(windows, options.windows, config)
    prompts = _prompt_rows(pairs, options.prompts, config, tokenizer.eot)
    values = _record(circuit.nodes, config, params, np.concatenate([corpus, prompts]), options.batch)
    on_corpus, on_prompts = values[: len(corpus)], values[len(corpus) :]
    shown = [
        {"tokens": [row[: end + 1].tolist() for row in rows], "answers": answers.tolist()}
        for rows, end, answers in zip(pairs.tokens, pairs.last, pairs.answers, strict=True)
    ][: options.prompts]
    words = _words(circuit.embedding, options.words)
    nodes = [
        {
            **_statistics(on_corpus[..., i]),
            "contexts": _contexts(on_corpus[..., i], corpus, options),
            "prompts": _prompt_values(on_prompts[..., i], pairs.last),
        }
        for i in range(len(circuit.nodes))
    ]
    ids = _token_ids(shown, words, circuit.unembedding, nodes)
    return {
        "pieces": {str(i): text for i, text in zip(ids, tokenizer.pieces(ids), strict=True)},
        "corpus": {"windows": len(corpus), "tokens": int(corpus.size)},
        "prompts": shown,
        "words": words,
        "nodes": nodes,
    }


def _sample(windows: np.ndarray, count: int, config: ModelConfig) -> np.ndarray:
    """Up to `count` evenly spaced windows without their last token, int32 [m, n_ctx]."""
    if len(windows) == 0 or windows.shape[-1] != config.n_ctx + 1:
        raise CircuitError(
            f"corpus windows have shape {windows.shape}; the circuit's model needs at least one of "
            f"n_ctx + 1 = {config.n_ctx + 1} tokens"
        )
    chosen = np.linspace(0, len(windows) - 1, min(count, len(windows))).astype(int)
    return np.asarray(windows[chosen, :-1], np.int32)


def _prompt_rows(pairs: Pairs, count: int, config: ModelConfig, eot: int) -> np.ndarray:
    """The first `count` pairs as rows A, B, A, B, ... of n_ctx tokens: the shape that corpus rows have."""
    tokens = pairs.tokens[:count].reshape(-1, pairs.tokens.shape[-1])
    spare = config.n_ctx - tokens.shape[-1]
    if spare < 0:
        raise CircuitError(
            f"prompts of task {pairs.task} have up to {tokens.shape[-1]} tokens, more than the circuit's "
            f"model reads ({config.n_ctx}); build the pairs with n_ctx {config.n_ctx}"
        )
    return np.pad(tokens, ((0, 0), (0, spare)), constant_values=eot).astype(np.int32)


def _record(
    nodes: Sequence[Node], config: ModelConfig, params: Params, rows: np.ndarray, batch: int
) -> np.ndarray:
    """Activations of `nodes` in the full model on `rows` int32 [R, n_ctx]: float32 [R, n_ctx, nodes]."""
    record = _recorder(nodes, config)
    padded = np.pad(rows, ((0, -len(rows) % batch), (0, 0)))
    parts = [
        np.asarray(record(params, padded[start : start + batch])) for start in range(0, len(padded), batch)
    ]
    return np.concatenate(parts)[: len(rows)]


def _recorder(nodes: Sequence[Node], config: ModelConfig) -> Callable[[Params, np.ndarray], jax.Array]:
    """A compiled (params, tokens [B, T]) -> float32 [B, T, nodes]."""
    places: dict[str, list[int]] = {}
    for place, node in enumerate(nodes):
        places.setdefault(node.site, []).append(place)
    model = Transformer(config)

    @jax.jit
    def record(params: Params, tokens: jax.Array) -> jax.Array:
        _, records = model.apply(params, tokens, record=tuple(places))
        out = jnp.zeros((*tokens.shape, len(nodes)), jnp.float32)
        for site, here in places.items():
            columns = np.array([nodes[place].index for place in here])
            out = out.at[..., np.array(here)].set(records[site][..., columns].astype(jnp.float32))
        return out

    return record


def _statistics(values: np.ndarray) -> dict[str, float]:
    """Of one node over all corpus tokens read, [windows, n_ctx]."""
    values = values.astype(np.float64)
    figures = {"mean": values.mean(), "std": values.std(), "min": values.min(), "max": values.max()}
    return {name: _short(value) for name, value in {**figures, "active": (values != 0).mean()}.items()}


def _contexts(values: np.ndarray, corpus: np.ndarray, options: EvidenceOptions) -> dict[str, list[Evidence]]:
    """The windows where one node is largest and where it is most negative, one context each."""
    if values.min() == values.max():  # a constant fires on nothing in particular
        return {"positive": [], "negative": []}
    return {
        "positive": _peaks(values, values, corpus, options),
        "negative": _peaks(values, -values, corpus, options),
    }


def _peaks(
    values: np.ndarray, height: np.ndarray, corpus: np.ndarray, options: EvidenceOptions
) -> list[Evidence]:
    """Contexts around the highest point of each window, highest first; only where `height` is positive."""
    peaks = height.argmax(axis=1)
    tops = height[np.arange(len(height)), peaks]
    order = [int(i) for i in np.argsort(-tops, kind="stable")[: options.contexts] if tops[i] > 0]
    size = min(options.context_tokens, values.shape[1])
    contexts = []
    for row in order:
        start = int(np.clip(peaks[row] - int(size * _SHARE_BEFORE_PEAK), 0, values.shape[1] - size))
        span = slice(start, start + size)
        contexts.append(
            {
                "tokens": corpus[row, span].tolist(),
                "values": _short_list(values[row, span]),
                "peak": int(peaks[row]) - start,
            }
        )
    return contexts


def _prompt_values(values: np.ndarray, last: np.ndarray) -> list[list[list[float]]]:
    """One node's values on prompt rows A, B, A, B, ... [2 * prompts, n_ctx], without the padding."""
    pairs = values.reshape(-1, 2, values.shape[-1])
    return [[_short_list(row[: end + 1]) for row in pair] for pair, end in zip(pairs, last, strict=False)]


def _words(embedding: Iterable[Entry], count: int) -> dict[str, Evidence]:
    """Per residual channel, the tokens whose embedding weighs most there."""
    channels: dict[int, list[Entry]] = {}
    for entry in embedding:
        channels.setdefault(entry.channel, []).append(entry)
    words = {}
    for channel, entries in sorted(channels.items()):
        top = sorted(entries, key=lambda entry: (-abs(entry.weight), entry.token))[:count]
        words[str(channel)] = {
            "count": len(entries),
            "top": [[entry.token, _short(entry.weight)] for entry in top],
        }
    return words


def _token_ids(
    prompts: Iterable[Evidence],
    words: Mapping[str, Evidence],
    unembedding: Iterable[Entry],
    nodes: Iterable[Evidence],
) -> list[int]:
    """Every token id that the evidence names, ascending."""
    ids = {entry.token for entry in unembedding}
    for prompt in prompts:
        ids.update(prompt["answers"], *prompt["tokens"])
    for channel in words.values():
        ids.update(token for token, _ in channel["top"])
    for node in nodes:
        for contexts in node["contexts"].values():
            ids.update(*(context["tokens"] for context in contexts))
    return sorted(ids)


def _short(value: float) -> float:
    """Four significant digits; 0 as an integer, which is shorter in JSON."""
    return 0 if value == 0 else float(f"{value:.4g}")


def _short_list(values: np.ndarray) -> list[float]:
    return [_short(value) for value in values.tolist()]

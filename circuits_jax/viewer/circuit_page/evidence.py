"""What makes each node of a circuit fire: its activations in the full model, on corpus text and on prompts.

What comes out is plain data, ready for JSON; page/evidence_data.js reads it.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from circuits_jax.circuits.circuit import Circuit, Entry
from circuits_jax.config.checks import check_positive
from circuits_jax.model.model import Model
from circuits_jax.storage.errors import CircuitError
from circuits_jax.tasks.task import Pairs
from circuits_jax.viewer.circuit_page.curve import loss_curve
from circuits_jax.viewer.circuit_page.describe import Text, describe, read_text
from circuits_jax.viewer.circuit_page.examples import histogram, quantile_examples, short, statistics
from circuits_jax.viewer.circuit_page.live import answer_logits, embed_network
from circuits_jax.viewer.circuit_page.pack import pack, pack_scaled
from circuits_jax.viewer.circuit_page.record import prompt_rows, record_nodes, sample_windows
from circuits_jax.viewer.circuit_page.vocabulary import display_text

Evidence = dict[str, Any]
NETWORK = ("network", "no_network")  # what of it `circuit_network` gives

# Activations held at once: 256 MB of float32.
_MAX_VALUES = 1 << 26


@dataclasses.dataclass(frozen=True)
class EvidenceOptions:
    """How much is shown; memory is about windows * n_ctx * nodes floats, and bounded.

    Attributes:
      windows: Corpus windows read, evenly spaced over those given.
      batch: Rows of one forward pass.
      contexts: Contexts shown per node, side and quantile.
      context_tokens: Tokens of one context.
      prompts: Task prompt pairs shown.
      answers: Different answer tokens that the shown prompts may have.
      words: Most weighty tokens listed per embedding channel.
    """

    windows: int = 256
    batch: int = 16
    contexts: int = 2
    context_tokens: int = 20
    prompts: int = 12
    answers: int = 12
    words: int = 12

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check_positive(f"evidence.{field.name}", getattr(self, field.name))


def gather_evidence(
    circuit: Circuit,
    model: Model,
    pairs: Pairs,
    windows: np.ndarray,
    options: EvidenceOptions | None = None,
) -> Evidence:
    """Statistics, contexts, descriptions and prompt values of every kept node, and the circuit's network.

    Args:
      circuit: Names the nodes.
      model: The model that it was cut from; its tokenizer gives the tokens' display text.
      pairs: Task pairs; the first few are shown.
      windows: int [M, n_ctx + 1] of corpus text.
      options: How much to show.

    Returns:
      A JSON-able dict, single figures with four significant digits:
      `pieces`: {token id as a string: text};
      `corpus`: {windows, tokens: read; length: of a window; ids: packed windows that contexts point into;
        wide: as 32 bits and not 16};
      `prompts`: [{tokens: [A, B], answers: [of A, of B], circuit and full: [[logit of A's answer, of B's] on
        A, on B]}];
      `words`: {channel as a string: {count, top: [[token, weight]]}};
      `nodes`: one per circuit node, in its order: statistics, scale, histogram, examples, description, and
        prompts (packed values on A, B, A, B, ...);
      `curve`: of `loss_curve`; `network` and `no_network`: of `embed_network`.

    Raises:
      CircuitError: if the model has no tokenizer, there are no windows, or a window or a prompt does not fit
        the model.
    """
    options = options or EvidenceOptions()
    config, tokenizer = model.config, model.tokenizer
    if tokenizer is None:
        raise CircuitError(f"no tokenizer lies beside {model.name}, so that no token has a text")
    most = max(1, _MAX_VALUES // (config.n_ctx * max(1, len(circuit.nodes))))
    corpus = sample_windows(windows, min(options.windows, most), config)
    everything, pairs = pairs, _shown(pairs, options)
    rows = prompt_rows(pairs, config, tokenizer.eot)
    values = record_nodes(circuit.nodes, model, np.concatenate([corpus, rows]), options.batch)
    text = read_text(corpus, [display_text(piece) for piece in tokenizer.pieces(range(config.vocab_size))])
    nodes = [
        _node(values[..., i], text, pairs, config.vocab_size, options) for i in range(len(circuit.nodes))
    ]
    used = _keep_used_windows(nodes)
    words = _words(circuit.embedding, options.words)
    answers = sorted(set(pairs.answers.ravel().tolist()))
    ids = sorted(
        {entry.token for entry in circuit.unembedding}
        | {*corpus[used].ravel().tolist(), *rows.ravel().tolist(), *answers}
        | {token for channel in words.values() for token, _ in channel["top"]}
        | {token for node in nodes for token in _described(node["description"])}
    )
    return {
        "pieces": {str(i): piece for i, piece in zip(ids, tokenizer.pieces(ids), strict=True)},
        "corpus": {
            "windows": len(corpus),
            "tokens": int(corpus.size),
            "length": config.n_ctx,
            "wide": config.vocab_size > 65536,
            "ids": pack(corpus[used], "<u4" if config.vocab_size > 65536 else "<u2"),
        },
        "prompts": _prompts(circuit, model, pairs, rows),
        "words": words,
        "nodes": nodes,
        "curve": loss_curve(circuit, model, everything),
        **circuit_network(circuit, model, everything, options),
    }


def circuit_network(
    circuit: Circuit, model: Model, pairs: Pairs, options: EvidenceOptions | None = None
) -> Evidence:
    """The part of `gather_evidence` that lets a page run the circuit; the model is not run for it."""
    answers = sorted(set(_shown(pairs, options or EvidenceOptions()).answers.ravel().tolist()))
    return dict(zip(NETWORK, embed_network(circuit, model, answers), strict=True))


def _shown(pairs: Pairs, options: EvidenceOptions) -> Pairs:
    """The first `options.prompts` pairs whose answers are among the first `options.answers` of all."""
    seen: dict[int, None] = {}
    for token in pairs.answers.ravel().tolist():
        seen.setdefault(token)
    allowed = list(seen)[: max(2, options.answers)]
    chosen = np.flatnonzero(np.isin(pairs.answers, allowed).all(axis=1))[: options.prompts]
    return dataclasses.replace(
        pairs, tokens=pairs.tokens[chosen], last=pairs.last[chosen], answers=pairs.answers[chosen]
    )


def _node(
    values: np.ndarray, text: Text, pairs: Pairs, vocab_size: int, options: EvidenceOptions
) -> dict[str, Any]:
    """All there is about one node; `values` [corpus windows, then prompt rows, n_ctx]."""
    on_corpus, on_prompts = values[: len(text.tokens)], values[len(text.tokens) :]
    spans = [row[: end + 1] for row, end in zip(on_prompts, np.repeat(pairs.last, 2), strict=True)]
    scale = short(float(np.abs(values).max())) * 1.001  # rounding must not push the largest out
    return {
        **statistics(on_corpus),
        "scale": scale,
        "histogram": histogram(on_corpus),
        "examples": quantile_examples(on_corpus, options.contexts, options.context_tokens, scale),
        "description": describe(on_corpus, text, vocab_size),
        "prompts": [pack_scaled(span, scale) for span in spans],
    }


def _keep_used_windows(nodes: Iterable[Mapping[str, Any]]) -> np.ndarray:
    """Renumbers the windows that contexts point to, and returns which they were, int [used]."""
    contexts = [
        context
        for node in nodes
        for side in node["examples"].values()
        for _, group in side
        for context in group
    ]
    used = sorted({context[0] for context in contexts})
    place = {window: i for i, window in enumerate(used)}
    for context in contexts:
        context[0] = place[context[0]]
    return np.array(used, int)


def _prompts(circuit: Circuit, model: Model, pairs: Pairs, rows: np.ndarray) -> list[Evidence]:
    """The shown pairs with both answers' logits, in the circuit and in the full model."""
    if not len(rows):
        return []
    logits = answer_logits(circuit, model, rows, np.repeat(pairs.last, 2))
    shown = []
    for i, (tokens, end, answers) in enumerate(zip(pairs.tokens, pairs.last, pairs.answers, strict=True)):
        prompt: Evidence = {"tokens": tokens[:, : end + 1].tolist(), "answers": answers.tolist()}
        for name, table in logits.items():
            prompt[name] = table[2 * i : 2 * i + 2][:, answers].astype(float).tolist()
        shown.append(prompt)
    return shown


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
            "top": [[entry.token, short(entry.weight)] for entry in top],
        }
    return words


def _described(description: Mapping[str, Any] | None) -> list[int]:
    """Token ids that a description names."""
    return [] if description is None or description["kind"] == "state" else description["words"]

"""What a page needs to run a circuit by itself (read by page/forward.js).

AbsTopK competes over all channels, so every nonzero weight *out of kept nodes* is there; what removed nodes
add is constant and is summed up here (docs/method.md, "Ablation").  One thing is no constant: a removed
value channel, held at its mean m, passes m * (1 - what the sink takes), so it is summed up by head.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from circuits_jax.circuits import graph
from circuits_jax.circuits.ablation.edge_removal import remove_edges
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.config import TOPK_LOCATIONS, ModelConfig
from circuits_jax.model.model import Model
from circuits_jax.model.parameters import (
    ATTENTION_OUT,
    BIGRAM,
    FINAL_NORM,
    LOGITS_BIAS,
    MLP_IN,
    MLP_OUT,
    NORMS,
    POSITION_EMBEDDING,
    POSITION_NORMS,
    QKV,
    SINK,
    TOKEN_EMBEDDING,
    get,
)
from circuits_jax.model.sites import FINAL, parse, topk_width
from circuits_jax.model.taps import only
from circuits_jax.model.transformer import Params
from circuits_jax.model.wiring import Half, layers_of, wires
from circuits_jax.viewer.circuit_page.pack import pack, pack_rows

Network = dict[str, Any]

MAX_BYTES = 1_400_000


def embed_network(circuit: Circuit, model: Model, answers: Sequence[int]) -> tuple[Network | None, str]:
    """The circuit's network for the page, or None and why it is not there.

    Args:
      circuit: The circuit.
      model: The model that it was cut from.
      answers: Tokens whose logits the page computes.

    Returns:
      (network, "") or (None, reason in words).
    """
    config = model.config
    if config.dtype != "float32":
        return None, f"the model computes in {config.dtype}, which the page cannot repeat exactly"
    if config.norm == "none" or config.attention != "causal":
        return None, f"the page knows no norm {config.norm!r} with {config.attention} attention"
    params = jax.tree.map(np.asarray, model.params)
    held = {site: np.where(mask > 0, np.nan, circuit.means[site]) for site, mask in circuit.masks().items()}
    cuts = _Cuts(circuit, config, params)
    network = {
        "config": _settings(config),
        "embedding": pack_rows(get(params, TOKEN_EMBEDDING)),
        "positions": None if config.position == "none" else pack(get(params, POSITION_EMBEDDING)),
        "layers": [_layer(config, params, held, cuts, layer) for layer in range(config.n_layer)],
        "final": _norm(get(params, FINAL_NORM)),
        "end": pack(held[FINAL]) if FINAL in held else None,
        "answers": [_answer(config, params, token) for token in answers],
    }
    size = len(json.dumps(network))
    if size > MAX_BYTES:
        return None, f"it has too many weights for a page ({size / 1e6:.1f} MB)"
    return network, ""


def answer_logits(
    circuit: Circuit, model: Model, tokens: np.ndarray, last: np.ndarray
) -> Mapping[str, np.ndarray]:
    """Logits of the circuit and of the full model at the last position of each prompt.

    Args:
      circuit: The circuit.
      model: The model that it was cut from.
      tokens: int32 [P, T].
      last: int [P].

    Returns:
      {"circuit": float32 [P, V], "full": float32 [P, V]}.
    """
    cut = remove_edges(circuit, model)

    @jax.jit
    def alone(params: Params, tokens: jax.Array, last: jax.Array) -> jax.Array:
        return cut.network.apply(params, tokens, tap=only(circuit), at=last)[0]

    whole, _ = model.apply(tokens, at=last)
    return {"circuit": np.asarray(alone(cut.device_params, tokens, last)), "full": np.asarray(whole)}


class _Cuts:
    """Removed edges between kept nodes: each contributes its weight times the mean of what it carries."""

    def __init__(self, circuit: Circuit, config: ModelConfig, params: Params):
        masks, self._means = circuit.masks(), circuit.means
        self._cut: dict[tuple[str, str], np.ndarray] = {}
        self._carried = {wire.source: wire.carried for wire in wires(config.n_layer)}
        for wire in wires(config.n_layer):
            between = np.outer(masks[wire.source] > 0, masks[wire.target] > 0)
            self._cut[wire.source, wire.target] = between & (np.asarray(wire.weights(params)) != 0)
        for edge in circuit.edges:
            source, target = circuit.nodes[edge.source], circuit.nodes[edge.target]
            self._cut[source.site, target.site][source.index, target.index] = False

    def split(
        self, kernel: np.ndarray, source: str, targets: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray | float]:
        """(`kernel` [in, out of all `targets`] without the removed edges, what those add to every output)."""
        cut = np.concatenate([self._cut[source, target] for target in targets], axis=1)
        added = self._means[self._carried[source]] @ np.where(cut, kernel, 0) if cut.any() else 0.0
        return np.where(cut, 0, kernel), added


def _settings(config: ModelConfig) -> dict[str, Any]:
    """The configuration as the page's forward pass asks for it; `keep` holds AbsTopK's k by location."""
    return {
        "layers": config.n_layer, "width": config.d_model, "read": config.d_read, "heads": config.heads,
        "head": config.d_head, "neurons": config.neurons, "context": config.n_ctx, "norm": config.norm,
        "activation": config.activation, "residual": config.residual_activation, "position": config.position,
        "keep": {
            name: config.kept_activations(name, topk_width(config, name)) for name in TOPK_LOCATIONS
        },
    }  # fmt: skip


def _layer(
    config: ModelConfig, params: Params, held: Mapping[str, np.ndarray], cuts: _Cuts, layer: int
) -> dict[str, Any]:
    attention, mlp = layers_of(config.n_layer)[layer]
    parts: dict[str, Any] = {
        name: {
            parse(site)[1].partition(".")[2]: pack(held[site])
            for site in (half.read, *half.units, half.write)
        }
        for name, half in (("attn", attention), ("mlp", mlp))
    }
    sink = get(params, SINK, layer) if config.attention_sink else None
    parts["attn"] |= {
        "norm": _norm(get(params, NORMS["attn"], layer)),
        "sink": None if sink is None else pack(np.broadcast_to(sink, config.heads)),
        "qkv": _linear(get(params, QKV, layer), held, cuts, attention.read, attention.units),
        "out": _values_out(config, get(params, ATTENTION_OUT, layer), held, cuts, attention),
    }
    parts["mlp"] |= {
        "norm": _norm(get(params, NORMS["mlp"], layer)),
        "up": _linear(get(params, MLP_IN, layer), held, cuts, mlp.read, mlp.units),
        "down": _linear(get(params, MLP_OUT, layer), held, cuts, mlp.values, [mlp.write]),
    }
    if config.position == "concat":
        for name, norm in POSITION_NORMS.items():
            parts[name]["positions"] = _norm(get(params, norm, layer))
    return parts


def _norm(norm: Params) -> dict[str, str | None]:
    bias = norm.get("bias")
    return {"scale": pack(norm["scale"]), "bias": None if bias is None else pack(bias)}


def _linear(
    layer: Params, held: Mapping[str, np.ndarray], cuts: _Cuts, source: str, targets: Sequence[str]
) -> dict[str, Any]:
    """Rows of kept sources, and one constant: the bias and what removed sources and edges add."""
    kernel, kept = np.asarray(layer["kernel"], np.float64), np.isnan(held[source])
    constant = np.where(kept, 0, held[source]) @ kernel + np.asarray(layer.get("bias", 0), np.float64)
    kernel, added = cuts.split(kernel, source, targets)
    return {
        "kept": np.flatnonzero(kept).tolist(),
        "rows": pack_rows(kernel[kept]),
        "constant": pack(constant + added),
    }


def _values_out(
    config: ModelConfig, layer: Params, held: Mapping[str, np.ndarray], cuts: _Cuts, half: Half
) -> dict[str, Any]:
    """As `_linear`, but what removed value channels add stays apart by head: [heads, d_model]."""
    kernel, values = np.asarray(layer["kernel"], np.float64), held[half.values]
    kept = np.isnan(values)
    removed = np.where(kept, 0, values)[:, None] * kernel
    by_head = removed.reshape(config.heads, config.d_head, -1).sum(axis=1)
    kernel, added = cuts.split(kernel, half.values, [half.write])
    bias = np.asarray(layer.get("bias", np.zeros(kernel.shape[1])), np.float64)
    return {
        "kept": np.flatnonzero(kept).tolist(),
        "rows": pack_rows(kernel[kept]),
        "constant": pack(bias + added),
        "heads": pack_rows(by_head),
    }


def _answer(config: ModelConfig, params: Params, token: int) -> dict[str, Any]:
    """One answer's column of the unembedding, its bias and its column of the bigram table."""
    return {
        "token": int(token),
        "weights": pack(graph.unembedding(config, params)[:, token]),
        "bias": float(get(params, LOGITS_BIAS)[token]) if config.logits_bias else 0.0,
        "bigram": pack(get(params, BIGRAM)[:, token]) if config.has_bigram else None,
    }

"""Our configurations and parameter trees in the released layout, for the numpy network of tests/released."""

import numpy as np

from circuits_jax.config import ModelConfig
from tests.released import oracle


def forward(config: ModelConfig, params, tokens):
    """(logits, {site: activation}) by the numpy network."""
    return oracle.forward(released_config(config), released_state(config, params), np.asarray(tokens))


def released_config(config: ModelConfig):
    return {
        "n_layer": config.n_layer,
        "n_head": config.heads,
        "rms_norm": config.norm == "rms",
        "activation_type": config.activation,
        "residual_activation_type": config.residual_activation,
        "afrac": config.activation_fraction,
        "afrac_loctypes": ",".join(config.activation_locations),
        "tied_unembed": config.tied_unembed,
        "sink": config.attention_sink,
        "d_pos_emb": config.d_pos if config.position == "concat" else None,
        "enable_bigram_table": config.has_bigram,
    }


def released_state(config: ModelConfig, params):
    """Linear weights are [out, in] there, and a model without positions has zeros for them."""
    state = {"transformer.wte.weight": params["wte"]["embedding"]}
    state["transformer.wpe.weight"] = (
        np.zeros((config.n_ctx, config.d_model), np.float32)
        if config.position == "none"
        else params["wpe"]["embedding"]
    )
    for layer in range(config.n_layer):
        block, prefix = params[f"h_{layer}"], f"transformer.h.{layer}."
        for half in ("attn", "mlp"):
            for name, leaves in block[half].items():
                if name == "sink":
                    state[f"{prefix}attn.attn_imp.sink_logit"] = leaves
                else:
                    _linear(state, f"{prefix}{half}.{name}", leaves)
        for name, leaves in block.items():
            if name.startswith("ln_"):
                _norm(state, prefix + name, leaves)
    _norm(state, "transformer.ln_f", params["ln_f"])
    if "lm_head" in params:
        _linear(state, "lm_head", params["lm_head"])
    if "logits_bias" in params:
        state["final_logits_bias"] = params["logits_bias"]
    if "bigram" in params:
        state["bigram_table"] = params["bigram"]
    return state


def _linear(state, name, leaves):
    state[f"{name}.weight"] = np.asarray(leaves["kernel"]).T
    if "bias" in leaves:
        state[f"{name}.bias"] = leaves["bias"]


def _norm(state, name, leaves):
    state[f"{name}.weight"] = leaves["scale"]
    if "bias" in leaves:
        state[f"{name}.bias"] = leaves["bias"]

"""`beeg_config.json` <-> ModelConfig (docs/numerics.md, "Released configuration").

Every key of the released configurations is honoured, or known to change nothing in inference, or
refused by name.  Defaults are the released ones, which differ from ModelConfig's.
"""

import warnings
from collections.abc import Mapping
from typing import Any

from circuits_jax.config import (
    ACTIVATIONS,
    RESIDUAL_ACTIVATIONS,
    TOPK_LOCATIONS,
    ModelConfig,
)
from circuits_jax.config.checks import check_choice, check_positive
from circuits_jax.storage.errors import CheckpointError, ConfigError

# key -> (types it may have, released default)
_HONOURED: dict[str, tuple[tuple[type, ...], Any]] = {
    "block_size": ((int,), 1024),
    "vocab_size": ((int,), 50304),
    "n_layer": ((int,), 12),
    "n_head": ((int,), 12),
    "d_model": ((int,), 768),
    "d_head": ((int, type(None)), None),
    "d_mlp": ((int, type(None)), None),
    "d_pos_emb": ((int, type(None)), None),
    "bias": ((bool,), True),
    "ln_bias": ((bool,), True),
    "rms_norm": ((bool,), False),
    "activation_type": ((str,), "gelu"),
    "residual_activation_type": ((str,), "identity"),
    "afrac": ((float, int, type(None)), None),
    "afrac_loctypes": ((str,), "attn_in,attn_out,mlp_in,mlp_out"),
    "tied_unembed": ((bool,), True),
    "sink": ((bool, type(None)), False),
    "enable_bigram_table": ((bool,), False),
}
_CHOICES = {"activation_type": ACTIVATIONS, "residual_activation_type": RESIDUAL_ACTIVATIONS}
# Of training, of speed, of how a tensor is initialised, sized or named: the logits do not depend on them,
# or (`n_embd` and the two ranks) the tensors themselves tell, since others do not fit.
_WITHOUT_EFFECT = {
    "afrac_ste",
    "afrac_ste_only_non_neurons",
    "bigram_table_rank",
    "debug_exact_topk",
    "debug_nans",
    "dropout",
    "dropout_cat_pos_emb",
    "enable_sparse_kernels",
    "expansion_factor",
    "expansion_factor_mlp",
    "flash",
    "grad_checkpointing",
    "ignore_dw_grad",
    "learnable_bigram_table",
    "mup_width_multiplier",
    "n_embd",
    "pfrac",
    "sinusoidal_cat_pos_emb",
    "sparse_matmul_impl",
    "tokenizer_name",
    "unembed_rank",
}
# What the transformers library writes into config.json beside a model's own keys.
_OF_TRANSFORMERS = {
    "_name_or_path",
    "architectures",
    "attn_implementation",
    "auto_map",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "is_decoder",
    "max_position_embeddings",
    "model_type",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "return_dict",
    "tie_word_embeddings",
    "torch_dtype",
    "transformers_version",
    "unk_token_id",
    "use_cache",
}
# Options of the code that the released models were trained with, which the released inference code has not.
_REFUSED = ("afrac_approx", "enable_fp8_linear", "mup", "rtopk", "scale_invariance", "use_tied_aux_matrix")


def config_from_released(
    values: Mapping[str, Any], logits_bias: bool = True, strict: bool = True
) -> ModelConfig:
    """The ModelConfig of a released configuration.

    Args:
      values: The parsed `beeg_config.json` (or the `config.json` of the Hugging Face layout).
      logits_bias: Whether the checkpoint holds `final_logits_bias`; a file without it means zeros.
      strict: Whether unknown keys are an error; otherwise they are named in a warning.

    Raises:
      CheckpointError: for unknown keys (all of them in one message), a key that is not supported, a
        value of the wrong type, or values that do not fit together.
    """
    values = _known(values, strict)
    try:
        return _build({key: _value(values, key) for key in _HONOURED}, logits_bias)
    except ConfigError as error:
        raise CheckpointError(str(error)) from error


def config_to_released(config: ModelConfig) -> dict[str, Any]:
    """The released configuration of `config`, every value spelled out.

    Position "none" is written as added positions, whose table must then be zero.  `logits_bias` is
    said by the tensor being in the file, and the compute dtype is not part of the layout.

    Raises:
      CheckpointError: if the released code would not build such a model.
    """
    if config.norm == "none" or config.attention != "causal":
        raise CheckpointError(
            f"the released layout cannot express norm {config.norm!r} with {config.attention} attention: it "
            "has RMSNorm or LayerNorm, and causal attention"
        )
    if config.d_model % config.heads:
        raise CheckpointError(
            f"the released layout cannot express {config.heads} heads at d_model {config.d_model}: "
            "its d_model must be a multiple of its heads, also when d_head is given"
        )
    values = {
        "block_size": config.n_ctx,
        "vocab_size": config.vocab_size,
        "n_layer": config.n_layer,
        "n_head": config.heads,
        "d_model": config.d_model,
        "d_head": config.d_head,
        "d_mlp": config.neurons,
        "bias": config.bias,
        "ln_bias": config.norm_bias,
        "rms_norm": config.norm == "rms",
        "activation_type": config.activation,
        "residual_activation_type": config.residual_activation,
        "afrac": config.activation_fraction,
        "afrac_loctypes": ",".join(config.activation_locations),
        "tied_unembed": config.tied_unembed,
        "sink": config.attention_sink,
        "enable_bigram_table": config.has_bigram,
        "learnable_bigram_table": config.bigram == "learned",
        "dropout": 0.0,
    }
    return {**values, "d_pos_emb": config.d_pos} if config.position == "concat" else values


def _known(values: Mapping[str, Any], strict: bool) -> dict[str, Any]:
    """`values` under their present names, without the keys that have no effect."""
    values = dict(values)
    refused = [key for key in _REFUSED if values.pop(key, None)]
    if refused:
        raise CheckpointError(
            f"config keys set that are not supported: {', '.join(refused)}; the released inference code has "
            "no such options"
        )
    if "n_mlp" in values:
        neurons = values.pop("n_mlp")
        if values.get("d_mlp") is None:
            values["d_mlp"] = neurons
        elif values["d_mlp"] != neurons:
            raise CheckpointError(f"config keys d_mlp {values['d_mlp']} and n_mlp {neurons} differ")
    unknown = sorted(set(values) - set(_HONOURED) - _WITHOUT_EFFECT - _OF_TRANSFORMERS)
    if unknown and strict:
        raise CheckpointError(
            f"unknown config keys {', '.join(unknown)}: they may change what the model computes; "
            "load with strict=False to ignore them"
        )
    if unknown:
        warnings.warn(f"unknown config keys ignored: {', '.join(unknown)}", stacklevel=2)
    return {key: value for key, value in values.items() if key in _HONOURED}


def _value(values: Mapping[str, Any], key: str) -> Any:
    """The value of `key` or its default, after a look at its type."""
    types, default = _HONOURED[key]
    value = values.get(key, default)
    if type(value) not in types:
        names = " or ".join("null" if each is type(None) else each.__name__ for each in types)
        raise CheckpointError(f"config key {key} is {value!r}; it must be {names}")
    return value


def _build(values: Mapping[str, Any], logits_bias: bool) -> ModelConfig:
    for key, value in values.items():
        if type(value) is int and key != "afrac":
            check_positive(f"config key {key}", value)
    for key, choices in _CHOICES.items():
        check_choice(f"config key {key}", values[key], choices)
    # Not stripped: the released code takes " mlp_in" for a place that there is not.
    locations = tuple(filter(None, values["afrac_loctypes"].split(",")))
    for location in locations:
        check_choice("config key afrac_loctypes", location, TOPK_LOCATIONS)
    if values["d_model"] % values["n_head"]:
        raise CheckpointError(
            f"config key d_model is {values['d_model']}, which n_head {values['n_head']} does not divide"
        )
    fraction, positions = values["afrac"], values["d_pos_emb"]
    return ModelConfig(
        n_layer=values["n_layer"],
        d_model=values["d_model"],
        n_ctx=values["block_size"],
        vocab_size=values["vocab_size"],
        d_head=values["d_head"] or values["d_model"] // values["n_head"],
        n_head=values["n_head"],
        d_mlp=4 * values["d_model"] if values["d_mlp"] is None else values["d_mlp"],
        norm="rms" if values["rms_norm"] else "layer",
        activation=values["activation_type"],
        residual_activation=values["residual_activation_type"],
        position="add" if positions is None else "concat",
        d_pos=positions or 0,
        bias=values["bias"],
        norm_bias=values["ln_bias"],
        tied_unembed=values["tied_unembed"],
        attention_sink=bool(values["sink"]),
        # Trained or not, which `learnable_bigram_table` says: the table comes as a tensor, and not as counts.
        bigram="learned" if values["enable_bigram_table"] else "none",
        logits_bias=logits_bias,
        activation_fraction=None if fraction is None else float(fraction),
        activation_locations=locations,
    )

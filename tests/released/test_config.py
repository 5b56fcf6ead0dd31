"""`beeg_config.json` in and out."""

import pytest

from circuits_jax.config import ModelConfig
from circuits_jax.released.config import config_from_released, config_to_released
from circuits_jax.storage.errors import CheckpointError
from tests.released.models import VARIETY


def test_defaults_are_the_released_ones():
    config = config_from_released({})
    assert (config.n_ctx, config.vocab_size, config.n_layer, config.d_model) == (1024, 50304, 12, 768)
    assert (config.heads, config.d_head, config.neurons) == (12, 64, 3072)
    assert (config.norm, config.activation, config.residual_activation) == ("layer", "gelu", "identity")
    assert (config.bias, config.norm_bias, config.tied_unembed) == (True, True, True)
    assert (config.position, config.attention_sink, config.bigram) == ("add", False, "none")
    assert config.activation_fraction is None
    assert config.activation_locations == ("attn_in", "attn_out", "mlp_in", "mlp_out")


@pytest.mark.parametrize("name", VARIETY)
def test_round_trip(name):
    config = VARIETY[name]
    assert config_from_released(config_to_released(config), config.logits_bias) == config


# Every key of the released configurations, with a value that is not its default.
OTHER = {
    "block_size": 64, "vocab_size": 99, "n_layer": 3, "n_head": 6, "d_head": 5, "d_model": 96, "bias": False,
    "ln_bias": False, "rms_norm": True, "residual_activation_type": "relu", "activation_type": "relu",
    "afrac": 0.5, "afrac_loctypes": "attn_in", "tied_unembed": False, "d_mlp": 77, "n_mlp": 77,
    "enable_bigram_table": True, "d_pos_emb": 8, "sink": True,
}  # fmt: skip
WITHOUT_EFFECT = {
    "dropout": 0.1, "debug_nans": True, "tokenizer_name": "other", "grad_checkpointing": False,
    "learnable_bigram_table": True, "dropout_cat_pos_emb": True, "sinusoidal_cat_pos_emb": True,
    "enable_sparse_kernels": True, "flash": False, "sink": None,
    # Published configurations hold these too, though the released code does not know them.
    "n_embd": 256, "pfrac": 0.0625, "expansion_factor": 4, "expansion_factor_mlp": 1.0,
    "bigram_table_rank": None, "unembed_rank": None, "debug_exact_topk": False, "sparse_matmul_impl": "x",
    "afrac_ste": True, "afrac_ste_only_non_neurons": False, "mup_width_multiplier": None,
    "mup": False, "rtopk": False, "scale_invariance": False, "afrac_approx": None, "enable_fp8_linear": False,
}  # fmt: skip


@pytest.mark.parametrize("key", OTHER)
def test_every_key_that_matters_is_honoured(key):
    assert config_from_released({key: OTHER[key]}) != config_from_released({})


@pytest.mark.parametrize("key", WITHOUT_EFFECT)
def test_the_other_keys_change_nothing(key):
    assert config_from_released({key: WITHOUT_EFFECT[key]}) == config_from_released({})


def test_n_mlp_is_d_mlp():
    assert config_from_released({"n_mlp": 96}).neurons == 96
    assert config_from_released({"n_mlp": 96, "d_mlp": None}).neurons == 96
    with pytest.raises(CheckpointError, match="d_mlp 64 and n_mlp 96 differ"):
        config_from_released({"n_mlp": 96, "d_mlp": 64})


def test_unknown_keys_are_named_together():
    values = {"d_model": 48, "n_head": 4, "rotary": True, "alibi": 3}
    with pytest.raises(CheckpointError, match="alibi, rotary"):
        config_from_released(values)
    with pytest.warns(UserWarning, match="alibi, rotary"):
        assert config_from_released(values, strict=False).d_model == 48


@pytest.mark.parametrize("bigram", ["learned", "counts", "none"])
def test_a_table_of_counts_is_published_as_one_that_does_not_learn(bigram):
    values = config_to_released(ModelConfig(position="add", bigram=bigram))
    assert values["enable_bigram_table"] == (bigram != "none")
    assert values["learnable_bigram_table"] == (bigram == "learned")
    assert config_from_released(values).bigram == ("none" if bigram == "none" else "learned")


def test_keys_without_effect():
    plain = config_from_released({})
    values = {"dropout": 0.1, "flash": False, "grad_checkpointing": False, "learnable_bigram_table": True}
    values |= {"tokenizer_name": "x", "use_tied_aux_matrix": False, "model_type": "circuitgpt"}
    assert config_from_released(values) == plain


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"use_tied_aux_matrix": True}, "use_tied_aux_matrix"),
        ({"n_layer": "2"}, "n_layer is '2'"),
        ({"n_layer": True}, "n_layer is True"),
        ({"n_layer": 0}, "n_layer is 0"),
        ({"d_mlp": -4}, "d_mlp is -4"),
        ({"d_pos_emb": 0}, "d_pos_emb is 0"),
        ({"sink": 1}, "sink is 1; it must be bool or null"),
        ({"mup": True, "rtopk": True, "afrac_ste": True}, "not supported: mup, rtopk;"),
        ({"afrac": 1.5}, "1.5"),
        ({"afrac": float("nan")}, "nan"),
        ({"afrac_loctypes": "attn_in, mlp_in"}, "' mlp_in'; choose one of attn_in"),
        ({"afrac_loctypes": "attn_in,attn_why"}, "'attn_why'; choose one of attn_in"),
        ({"activation_type": "swish"}, "activation_type is 'swish'; choose one of gelu, relu"),
        ({"residual_activation_type": "gelu"}, "residual_activation_type is 'gelu'"),
        ({"d_model": 10, "n_head": 4}, "n_head 4 does not divide"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(values, words):
    with pytest.raises(CheckpointError, match=words) as error:
        config_from_released(values)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("field", [{"norm": "none"}, {"attention": "full"}])
def test_compiled_programs_have_no_released_layout(field):
    with pytest.raises(CheckpointError, match="cannot express norm .* attention"):
        config_to_released(ModelConfig(**field))


def test_heads_the_released_code_would_not_build():
    config = ModelConfig(d_model=10, d_head=3, n_head=4)
    with pytest.raises(CheckpointError, match="4 heads at d_model 10"):
        config_to_released(config)

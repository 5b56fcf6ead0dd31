"""The released state dict against the network's own parameter tree."""

import jax
import ml_dtypes
import numpy as np
import pytest

from circuits_jax.config import ModelConfig
from circuits_jax.model.parameters import parameters
from circuits_jax.released.state_dict import params_from_state, state_from_params
from circuits_jax.storage.errors import CheckpointError
from tests.released.models import TINY, VARIETY, assert_equal, random_params, shapes

# The paper's 8 x 2048 network.
PAPER = ModelConfig(n_layer=8, d_model=2048, n_ctx=256, vocab_size=2048, position="add", logits_bias=True)


def flat(tree):
    return {
        "/".join(key.key for key in path): leaf.shape
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


@pytest.mark.parametrize("config", [*VARIETY.values(), ModelConfig(), PAPER])
def test_the_table_is_the_tree_that_the_network_asks_for(config):
    assert {tensor.name: tensor.shape for tensor in parameters(config)} == flat(shapes(config))


def test_size_of_the_papers_network():
    assert sum(np.prod(tensor.shape) for tensor in parameters(PAPER)) == pytest.approx(416e6, rel=0.01)


@pytest.mark.parametrize("name", VARIETY)
def test_round_trip(name):
    config = VARIETY[name]
    params = random_params(config)
    state = state_from_params(params, config)
    assert_equal(params_from_state(dict(state), config), params)


def test_linear_weights_are_transposed():
    params = random_params(TINY)
    state = state_from_params(params, TINY)
    np.testing.assert_array_equal(
        state["transformer.h.0.mlp.c_fc.weight"], params["h_0"]["mlp"]["c_fc"]["kernel"].T
    )
    np.testing.assert_array_equal(state["transformer.wte.weight"], params["wte"]["embedding"])


def tiny_state(config=TINY):
    return state_from_params(random_params(config), config)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_becomes_float32(dtype):
    state = {name: value.astype(dtype) for name, value in tiny_state().items()}
    params = params_from_state(dict(state), TINY)
    expected = state["transformer.wte.weight"].astype(np.float32)
    assert_equal({"wte": params["wte"]["embedding"]}, {"wte": expected})


def test_every_missing_tensor_is_an_error_but_the_bigram_table():
    config = VARIETY["sparse"]
    full = tiny_state(config)
    for name in full:
        state = dict(full)
        del state[name]
        if name == "bigram_table":
            assert not params_from_state(state, config)["bigram"].any()
        else:
            with pytest.raises(CheckpointError, match=name):
                params_from_state(state, config)


def test_shapes_and_types_are_named():
    name = "transformer.h.0.attn.c_proj.weight"
    state = tiny_state() | {name: np.zeros((8, 9), np.float32)}
    with pytest.raises(CheckpointError, match=rf"{name} expected \[8, 8\], found \[8, 9\]"):
        params_from_state(state, TINY)
    state = tiny_state() | {name: np.zeros((8, 8), np.int64)}
    with pytest.raises(CheckpointError, match=f"{name} is int64"):
        params_from_state(state, TINY)


def test_surplus_tensors():
    mask = np.ones((1, 1, 6, 6), np.float32)
    params = params_from_state(tiny_state() | {"transformer.h.0.attn.bias": mask}, TINY)
    assert_equal(params, random_params(TINY))
    surplus = tiny_state() | {"bigram_table": np.zeros((11, 11), np.float32)}
    with pytest.raises(CheckpointError, match="no place for: bigram_table"):
        params_from_state(dict(surplus), TINY)
    with pytest.warns(UserWarning, match="bigram_table"):
        assert_equal(params_from_state(dict(surplus), TINY, strict=False), random_params(TINY))


def test_layers_must_agree_before_anything_is_built():
    with pytest.raises(CheckpointError, match="2 layers, the file 1"):
        params_from_state(tiny_state(), VARIETY["sparse"])
    absurd = ModelConfig(n_layer=10**12)
    with pytest.raises(CheckpointError, match="1000000000000 layers, the file 0"):
        params_from_state({}, absurd)
    compiled = {f"_orig_mod.{name}": value for name, value in tiny_state().items()}
    with pytest.raises(
        CheckpointError, match=r"1 layers, the file 0; its tensors are named _orig_mod\.lm_head"
    ):
        params_from_state(compiled, TINY)


def test_tied_weights():
    config = VARIETY["layer_norm"]
    state = tiny_state(config)
    assert state["lm_head.weight"] is state["transformer.wte.weight"]
    for name in ("lm_head.weight", "transformer.wte.weight"):
        one = {key: value for key, value in state.items() if key != name}
        assert_equal(params_from_state(one, config), random_params(config))
    for dtype in (np.float32, ml_dtypes.bfloat16):  # a NaN is no difference
        odd = np.full(state["lm_head.weight"].shape, np.nan, dtype)
        both = {"lm_head.weight": odd, "transformer.wte.weight": odd.copy()}
        assert np.isnan(params_from_state(state | both, config)["wte"]["embedding"]).all()
    head = state["lm_head.weight"] + 1
    with pytest.raises(CheckpointError, match="strict=False"):
        params_from_state(state | {"lm_head.weight": head}, config)
    params = params_from_state(state | {"lm_head.weight": head}, config, strict=False)
    np.testing.assert_array_equal(params["wte"]["embedding"], head)


def test_parameters_of_another_model_are_not_written():
    params = random_params(TINY)
    with pytest.raises(CheckpointError, match="lack h_1/"):
        state_from_params(params, VARIETY["sparse"])
    with pytest.raises(CheckpointError, match="hold extra, which"):
        state_from_params(params | {"extra": np.zeros(1, np.float32)}, TINY)
    params["wte"]["embedding"] = params["wte"]["embedding"].astype(np.float16)
    with pytest.raises(CheckpointError, match="wte/embedding: expected float32"):
        state_from_params(params, TINY)

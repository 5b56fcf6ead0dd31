"""Models out and in again."""

import json

import numpy as np
import pytest
import safetensors.numpy

from circuits_jax import released
from circuits_jax.config import ModelConfig
from circuits_jax.model.transformer import Transformer
from circuits_jax.storage.errors import CheckpointError, ConfigError
from tests.released import oracle
from tests.released.models import TINY, VARIETY, assert_equal, forward, random_params

FILES = {
    "bucket": ("beeg_config.json", "final_model.pt"),
    "huggingface": ("config.json", "model.safetensors"),
}


@pytest.mark.parametrize("layout", FILES)
@pytest.mark.parametrize("name", VARIETY)
def test_import_of_an_export_is_bit_exact(name, layout, tmp_path):
    config = VARIETY[name]
    params = random_params(config, keep=0.5)
    released.export(params, config, tmp_path / "out", layout)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES[layout])
    checkpoint = released.load(tmp_path / "out")
    assert checkpoint.config == config and checkpoint.tokenizer is None
    assert_equal(checkpoint.params, params)


@pytest.mark.parametrize("name", VARIETY)
def test_the_exported_files_mean_the_same_model(name, tmp_path):
    """The oracle, which reads released files only, computes the logits of our model."""
    config = VARIETY[name]
    params = random_params(config)
    released.export(params, config, tmp_path, "huggingface")
    wrapped = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    state = {name.removeprefix("circuit_model."): value for name, value in wrapped.items()}
    assert not set(state) & set(wrapped)
    tokens = np.random.default_rng(0).integers(config.vocab_size, size=(2, config.n_ctx), dtype=np.int32)
    expected, _ = oracle.forward(json.loads((tmp_path / "config.json").read_text()), state, tokens)
    logits, _ = forward(Transformer(config), params, tokens)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_no_positions_come_back_as_zeros(tmp_path):
    config = ModelConfig(n_layer=1, d_model=8, n_ctx=6, vocab_size=11, d_head=4)
    params = random_params(config)
    checkpoint = released.load(released.export(params, config, tmp_path))
    assert checkpoint.config.position == "add"
    assert not checkpoint.params["wpe"]["embedding"].any()
    tokens = np.arange(6, dtype=np.int32)[None]
    ours, _ = forward(Transformer(config), params, tokens)
    np.testing.assert_array_equal(forward(checkpoint.network, checkpoint.params, tokens)[0], ours)
    del checkpoint.params["wpe"]
    assert_equal(checkpoint.params, params)


def test_what_cannot_be_expressed(tmp_path):
    heads = ModelConfig(n_layer=1, d_model=10, n_ctx=6, vocab_size=11, d_head=4, n_head=4)
    with pytest.raises(CheckpointError, match="4 heads at d_model 10"):
        released.export(random_params(heads), heads, tmp_path / "out")
    with pytest.raises(CheckpointError, match="lack wpe/embedding"):
        params = random_params(TINY)
        del params["wpe"]
        released.export(params, TINY, tmp_path / "out")
    with pytest.raises(ConfigError, match="choose one of bucket, huggingface"):
        released.export(random_params(TINY), TINY, tmp_path / "out", "onnx")
    assert not (tmp_path / "out").exists()

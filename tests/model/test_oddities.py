"""A model that can be opened and means nothing is told; one that cannot learn is refused."""

import dataclasses

import numpy as np
import pytest

from circuits_jax.config import TOPK_LOCATIONS, ModelConfig
from circuits_jax.model import oddities
from circuits_jax.storage import notices
from circuits_jax.storage.errors import ConfigError

CONFIG = ModelConfig(n_layer=1, d_model=16, d_mlp=64, d_head=4, n_ctx=8, vocab_size=20)


@pytest.fixture(autouse=True)
def nothing_left_to_say():
    yield
    notices.tell()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted_where_they_are(value):
    params = {"a": {"kernel": np.zeros((3, 3), np.float32)}, "b": {"bias": np.zeros(4, np.float32)}}
    assert oddities.not_finite(params) is None
    params["b"]["bias"][1:3] = value
    assert oddities.not_finite(params) == "NaN or infinity in b/bias (2 values)"
    for name in "cdef":
        params[name] = {"bias": np.full(2, value, np.float32)}
    assert "and 2 more" in oddities.not_finite(params)


@pytest.mark.parametrize(
    ("fraction", "silent"), [(1 / 16, False), (1 / 17, True), (1 / 64, True), (None, False)]
)
def test_a_fraction_too_small_to_keep_anything_is_refused(fraction, silent):
    config = dataclasses.replace(CONFIG, activation_fraction=fraction, activation_locations=TOPK_LOCATIONS)
    if not silent:
        oddities.refuse_silenced(config)
        return
    with pytest.raises(ConfigError, match=r"model.activation_fraction is 0\.0.*0 of 16 at attn_in"):
        oddities.refuse_silenced(config)


def test_only_where_it_acts():
    config = dataclasses.replace(CONFIG, activation_fraction=1 / 32, activation_locations=("mlp_neuron",))
    oddities.refuse_silenced(config)  # 2 of 64 neurons
    config = dataclasses.replace(config, activation_locations=("attn_v",))
    assert oddities.silenced(config) == ["0 of 16 at attn_v"]


def test_what_is_odd_is_told_at_once_and_at_the_end(capsys):
    config = dataclasses.replace(CONFIG, activation_fraction=1 / 32)
    oddities.tell("runs/mine", config, {"a": {"bias": np.array([np.nan], np.float32)}})
    at_once = capsys.readouterr().err
    assert "runs/mine: AbsTopK keeps 0 of 16" in at_once and "NaN or infinity in a/bias" in at_once
    notices.tell()
    assert capsys.readouterr().err == at_once
    oddities.tell("runs/mine", CONFIG, {"a": {"bias": np.zeros(1, np.float32)}})
    assert capsys.readouterr().err == ""

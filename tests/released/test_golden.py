"""The nine recorded cases: files of the released code's layouts, its logits and every activation."""

import json
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from circuits_jax import released
from circuits_jax.model import sites
from tests.released import oracle
from tests.released.models import forward
from tests.released.oracle import CASES, GOLDEN

LOGITS, HOOKS = 5e-5, 2e-5
# Loaded as a folder, b and h are read from `final_model.pt`; so their safetensors are named as well.
PATHS = [*CASES, "b_sparse_rms_sink/weights.safetensors", "h_zero_wpe_default_loctypes/weights.safetensors"]


def recorded(case):
    with np.load(GOLDEN / case / "io.npz") as arrays:
        return dict(arrays)


def run(checkpoint, tokens):
    names = tuple(sites.sites(checkpoint.config))
    logits, records = forward(checkpoint.network, checkpoint.params, tokens.astype(np.int32), names)
    return np.asarray(logits), {name: np.asarray(value) for name, value in records.items()}


def loss(logits, targets):
    """Mean cross entropy over the targets that are not -1; the targets are not shifted."""
    logits = logits.astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    chosen = np.take_along_axis(logs, np.maximum(targets, 0)[..., None], -1)[..., 0]
    return -chosen[targets != -1].mean()


@pytest.mark.parametrize("path", PATHS)
def test_loads_and_matches(path):
    expected = recorded(path.split("/")[0])
    logits, records = run(released.load(GOLDEN / path), expected.pop("idx"))
    np.testing.assert_allclose(logits, expected.pop("logits"), rtol=0, atol=LOGITS)
    np.testing.assert_allclose(loss(logits, expected.pop("targets")), expected.pop("loss"), rtol=0, atol=1e-5)
    assert set(records) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(records[name], value, rtol=0, atol=HOOKS, err_msg=name)


def test_a_folder_prefers_the_bucket_layout(tmp_path):
    for name in ("beeg_config.json", "final_model.pt"):
        shutil.copy(GOLDEN / "b_sparse_rms_sink" / name, tmp_path)
    both = released.load(GOLDEN / "b_sparse_rms_sink").params
    jax.tree.map(np.testing.assert_array_equal, released.load(tmp_path).params, both)


@pytest.mark.parametrize("case", CASES)
def test_the_oracle_itself(case):
    expected = recorded(case)
    config = json.loads((GOLDEN / case / "config.json").read_text())
    state = safetensors.numpy.load_file(GOLDEN / case / "weights.safetensors")
    logits, hooks = oracle.forward(config, state, expected["idx"])
    np.testing.assert_allclose(logits, expected["logits"], rtol=0, atol=LOGITS)
    for name, value in hooks.items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=HOOKS, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("case", CASES)
def test_half_precision_copies(case, dtype, tmp_path):
    state = safetensors.numpy.load_file(GOLDEN / case / "weights.safetensors")
    rounded = {name: value.astype(dtype) for name, value in state.items()}
    safetensors.numpy.save_file(rounded, tmp_path / "model.safetensors")
    shutil.copy(GOLDEN / case / "config.json", tmp_path)
    checkpoint = released.load(tmp_path)
    assert {leaf.dtype for leaf in jax.tree.leaves(checkpoint.params)} == {np.dtype(np.float32)}
    tokens = recorded(case)["idx"]
    logits, records = run(checkpoint, tokens)
    expected, hooks = oracle.forward(checkpoint.raw_config, rounded, tokens)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=LOGITS)
    for name, value in hooks.items():
        np.testing.assert_allclose(records[name], value, rtol=0, atol=HOOKS, err_msg=name)
    # Rounding shows: the test would not pass on the unrounded weights.
    assert np.abs(expected - recorded(case)["logits"]).max() > LOGITS

"""Bridges saved and read back; what is damaged or of other models is refused in one line."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from circuits_jax.bridges.model import init_bridge, make_bridge
from circuits_jax.bridges.records import MANIFEST, TENSORS, Hashes, load_bridge, save_bridge, save_model
from circuits_jax.config import BridgeConfig, Config
from circuits_jax.storage.errors import BridgeError
from circuits_jax.training.checkpoints import Checkpoints
from circuits_jax.training.workdir import load_config
from tests.bridges.models import DENSE, SPARSE
from tests.training.tiny import CONFIG, assert_equal, make_state

HASHES = Hashes("a" * 64, "b" * 64, "c" * 64)


@pytest.fixture(params=["abs_top_k", "threshold"])
def saved(request, tmp_path):
    """(folder, bridge, parameters)."""
    config = BridgeConfig(encoder=request.param, dense="runs/dense")
    bridge = make_bridge(DENSE, SPARSE, config)
    params = jax.device_get(init_bridge(bridge, jax.random.PRNGKey(0)))
    save_bridge(tmp_path / "bridge", bridge, params, config, HASHES)
    return tmp_path / "bridge", bridge, params


def test_bridges_are_read_back_as_they_were(saved):
    folder, bridge, params = saved
    found, there = load_bridge(folder, HASHES)
    assert found == bridge
    assert_equal(jax.tree.map(np.asarray, there), jax.tree.map(np.asarray, params))


@pytest.mark.parametrize(
    ("field", "word"), [("dense", "dense model"), ("sparse", "sparse model"), ("tokenizer", "tokenizer")]
)
def test_bridges_of_other_models_are_refused(saved, field, word):
    with pytest.raises(BridgeError) as caught:
        load_bridge(saved[0], dataclasses.replace(HASHES, **{field: "d" * 64}))
    message = str(caught.value)
    assert (
        f"join the {word} {getattr(HASHES, field)[:12]}, not dddddddddddd" in message and "\n" not in message
    )


def test_no_bridges_at_all(tmp_path):
    with pytest.raises(BridgeError, match=r"no bridges.*python -m circuits_jax bridges"):
        load_bridge(tmp_path, HASHES)


@pytest.mark.parametrize("spoil", ["cut", "altered", "empty", "format", "lacking", "not json"])
def test_damaged_bridges_are_one_line(saved, spoil):
    folder = saved[0]
    content, manifest = (folder / TENSORS).read_bytes(), json.loads((folder / MANIFEST).read_text())
    if spoil in ("cut", "empty"):
        (folder / TENSORS).write_bytes(content[: 100 if spoil == "cut" else 0])
    elif spoil == "altered":
        (folder / TENSORS).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif spoil == "not json":
        (folder / MANIFEST).write_text("{")
    else:
        lacking = {name: value for name, value in manifest.items() if name != "dense"}
        changed = {**manifest, "version": 99} if spoil == "format" else lacking
        (folder / MANIFEST).write_text(json.dumps(changed))
    with pytest.raises(BridgeError) as caught:
        load_bridge(folder, HASHES)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_model_that_is_saved_is_a_finished_run(tmp_path):
    params = jax.device_get(make_state(CONFIG).params)
    (tmp_path / "tokenizer.model").write_bytes(b"words")
    config = dataclasses.replace(CONFIG, bridge=BridgeConfig(dense="runs/dense"))
    save_model(tmp_path / "sparse", config, params, tmp_path)
    save_model(tmp_path / "sparse", config, params, tmp_path)  # as a command that is given again
    assert load_config(tmp_path / "sparse") == CONFIG
    assert (tmp_path / "sparse" / "tokenizer.model").read_bytes() == b"words"
    checkpoints = Checkpoints(tmp_path / "sparse", keep=1)
    assert checkpoints.latest == CONFIG.train.steps
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.eval_shape(lambda: make_state(CONFIG))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), shapes)
    assert_equal(jax.device_get(checkpoints.restore(like).params), params)
    checkpoints.close()
    assert Config().bridge == BridgeConfig()

"""Checkpoints laid over a mesh straight from their file."""

import json
import subprocess
import sys

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from jax.sharding import PartitionSpec

from circuits_jax import released
from circuits_jax.config import MeshConfig, ModelConfig
from circuits_jax.released.mapped_files import forget_pages, read_safetensors
from circuits_jax.storage.errors import ConfigError
from circuits_jax.training.mesh.meshes import make_mesh
from circuits_jax.training.mesh.partition import parse_rules
from tests.released.models import VARIETY, assert_equal, random_params, shapes

CONFIG = ModelConfig(
    n_layer=2, d_model=16, n_ctx=6, vocab_size=24, d_head=4, d_mlp=32, position="add", logits_bias=True
)
MESH = MeshConfig(data=2, fsdp=2, model=2)


@pytest.fixture(scope="module")
def params():
    return random_params(CONFIG)


@pytest.mark.parametrize("layout", ["bucket", "huggingface"])
def test_each_device_holds_its_part_and_all_of_them_the_whole(layout, params, tmp_path):
    folder = released.export(params, CONFIG, tmp_path, layout)
    loaded = released.load(folder, mesh=make_mesh(MESH)).params
    assert_equal(jax.device_get(loaded), params)
    up = loaded["h_0"]["mlp"]["c_fc"]["kernel"]
    assert up.sharding.spec == PartitionSpec("fsdp", "model")
    assert {shard.data.shape for shard in up.addressable_shards} == {(8, 16)}
    for shard in up.addressable_shards:
        np.testing.assert_array_equal(shard.data, params["h_0"]["mlp"]["c_fc"]["kernel"][shard.index])
    down = loaded["h_1"]["attn"]["c_proj"]["kernel"]
    assert {shard.data.shape for shard in down.addressable_shards} == {(8, 8)}
    assert loaded["h_0"]["ln_1"]["scale"].sharding.spec == PartitionSpec()


def test_tied_weights(tmp_path):
    config = VARIETY["layer_norm"]
    tied = random_params(config)
    folder = released.export(tied, config, tmp_path)
    assert_equal(jax.device_get(released.load(folder, mesh=make_mesh(MeshConfig())).params), tied)


def test_half_precision_and_an_absent_table(tmp_path):
    """What the file has not becomes zeros on every device; bfloat16 becomes float32."""
    config = VARIETY["sparse"]
    folder = released.export(random_params(config), config, tmp_path, "huggingface")
    state = safetensors.numpy.load_file(folder / "model.safetensors")
    del state["circuit_model.bigram_table"]
    rounded = {name: value.astype(ml_dtypes.bfloat16) for name, value in state.items()}
    safetensors.numpy.save_file(rounded, folder / "model.safetensors")
    loaded = released.load(folder, mesh=make_mesh(MeshConfig())).params
    assert_equal(jax.device_get(loaded), released.load(folder).params)
    assert not loaded["bigram"].any()
    embedding = rounded["circuit_model.transformer.wte.weight"].astype(np.float32)
    np.testing.assert_array_equal(loaded["wte"]["embedding"], embedding)


def test_rules_come_before_those_of_training(params, tmp_path):
    folder = released.export(params, CONFIG, tmp_path)
    rules = parse_rules(["h_0/mlp/c_fc/kernel = -, model+fsdp"])
    loaded = released.load(folder, mesh=make_mesh(MESH), rules=rules).params
    assert {s.data.shape for s in loaded["h_0"]["mlp"]["c_fc"]["kernel"].addressable_shards} == {(16, 8)}
    assert {s.data.shape for s in loaded["h_1"]["mlp"]["c_fc"]["kernel"].addressable_shards} == {(8, 16)}


def test_a_mesh_that_does_not_divide(tmp_path):
    config = VARIETY["sparse"]  # 11 tokens
    folder = released.export(random_params(config), config, tmp_path)
    with pytest.raises(ConfigError, match="does not divide 11"):
        released.load(folder, mesh=make_mesh(MESH))


def test_forgotten_pages_are_read_again(tmp_path):
    folder = released.export(random_params(CONFIG), CONFIG, tmp_path, "huggingface")
    state = read_safetensors(folder / "model.safetensors")
    before = {name: value.copy() for name, value in state.items()}
    for value in state.values():
        forget_pages(value)
    for name, value in state.items():
        np.testing.assert_array_equal(value, before[name])
    forget_pages(np.zeros(3))


MEASURE = """
import json, pathlib, sys, time
import jax
from circuits_jax import released
from circuits_jax.config import MeshConfig
from circuits_jax.training.mesh import make_mesh
folder, sharded = sys.argv[1], sys.argv[2] == "True"
jax.config.update("jax_num_cpu_devices", 8)
mesh = make_mesh(MeshConfig(data=1, fsdp=8)) if sharded else None
status = pathlib.Path("/proc/self/status")  # ru_maxrss would begin at that of the parent
peak = lambda: 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
before, start = peak(), time.time()
params = released.load(folder, mesh=mesh).params
seconds = time.time() - start
leaves = jax.tree.leaves(params)
size = sum(4 * leaf.size for leaf in leaves)
held = lambda i: sum(4 * leaf.addressable_shards[i].data.size for leaf in leaves)
parts = [held(i) for i in range(8)] if sharded else []
print(json.dumps({"size": size, "peak": peak() - before, "seconds": seconds, "parts": parts}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["bucket", "huggingface"])
@pytest.mark.parametrize("d_model", [1024, 2048])
def test_a_whole_size_loads_within_twice_its_memory(d_model, layout, tmp_path):
    config = ModelConfig(n_layer=8, d_model=d_model, n_ctx=256, vocab_size=2048, position="add")
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), shapes(config))
    folder = released.export(params, config, tmp_path, layout)
    del params
    for sharded in (False, True):
        command = [sys.executable, "-c", MEASURE, str(folder), str(sharded)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        figures = json.loads(output.splitlines()[-1])
        print(layout, d_model, "sharded" if sharded else "whole", figures)
        assert 0.9 * figures["size"] < figures["peak"] < 2 * figures["size"]
        assert all(part < figures["size"] / 6 for part in figures["parts"])

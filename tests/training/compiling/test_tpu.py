"""The TPU compiler itself, on programs that it compiles in seconds; nothing is executed.

.ci/check tpu
"""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import SingleDeviceSharding

from circuits_jax.config import Config as WholeConfig
from circuits_jax.config import MeshConfig, ModelConfig, SparsityConfig, TrainConfig
from circuits_jax.runs.compile import compile_for
from circuits_jax.storage.errors import ConfigError
from circuits_jax.training.compiling.costs import count_costs
from circuits_jax.training.compiling.hlo import parse
from circuits_jax.training.compiling.topologies import describe_devices, find_slice
from tests.experiments.command import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.tpu, pytest.mark.computes]
pytest.importorskip("libtpu", reason="needs the extra tpu-compile")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # for commands too: all of them only compile
SIZE, LAYERS = 256, 4
TINY = WholeConfig(
    model=ModelConfig(n_layer=1, d_model=64, n_ctx=40, vocab_size=256, dtype="bfloat16"),
    sparsity=SparsityConfig(target=1 / 8, floor=1),
    train=TrainConfig(batch_size=16),
)


@pytest.mark.parametrize("name", ["v4:2x2x1", "v5e:1x1", "v5e:4x4", "v5p:2x2x1", "v6e:1x1", "v6e:2x4"])
def test_slices_are_described(name):
    found = find_slice(name)
    devices = describe_devices(found)
    assert len(devices) == found.chips and devices[0].device_kind.startswith(found.chip.kind)


def test_several_slices():
    found = find_slice("v5e:2x2", 2)
    assert len(describe_devices(found)) == 8 and find_slice("v5litepod-4", 2) == found


def costs_of(function, *shapes):
    where = SingleDeviceSharding(describe_devices(find_slice("v5e:1x1"))[0])
    given = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=where) for shape in shapes]
    return count_costs(parse(jax.jit(function).lower(*given).compile().as_text()))


def test_scanned_and_unrolled_layers_report_the_same_operations():
    def layers(unroll):
        def loss(weights, x):
            y = lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights, unroll=unroll)[0]
            return jnp.sum(y * y)

        return jax.grad(loss, argnums=(0, 1))

    shapes = (LAYERS, SIZE, SIZE), (64, SIZE)
    rolled, flat = costs_of(layers(1), *shapes), costs_of(layers(LAYERS), *shapes)
    assert rolled.flops == pytest.approx(flat.flops, rel=0.02) and rolled.uncounted == ()
    assert rolled.flops == pytest.approx(3 * LAYERS * 2 * 64 * SIZE * SIZE, rel=0.02)


def test_batched_products_count_once():
    found = costs_of(lambda a, b: jnp.einsum("hmk,hkn->hmn", a, b), (8, 128, 64), (8, 64, 128))
    assert found.flops == 8 * 2 * 128 * 64 * 128


@pytest.fixture(scope="module")
def step():
    config = dataclasses.replace(TINY, mesh=MeshConfig(data=2, fsdp=2))
    return compile_for(config, find_slice("v5e:2x2"))


def test_a_step_is_told_in_full(step):
    assert step.fits and step.bound != "compute" and step.traffic.uncounted == ()
    assert all(share > 0 for share in step.traffic.shares.values())
    assert 0 < step.traffic.main_bytes < step.traffic.bytes


def test_a_step_gathers_weights_and_no_activations(step):
    gathers = [each for each in step.traffic.collectives if each.op == "all-gather"]
    assert gathers and {each.of for each in gathers} == {"weights"}
    assert not [each for each in gathers if 40 in each.shape]
    assert "gradients" in {each.of for each in step.traffic.collectives}


@pytest.mark.parametrize("what", ["evaluate", "prune", "bridges", "generate"])
def test_other_programs_compile(what):
    found = compile_for(TINY, find_slice("v5e:1x1"), what)
    assert found.fits and found.traffic.flops > 0 and found.traffic.uncounted == ()


def test_several_steps_at_once_are_so_many_times_one():
    one = compile_for(TINY, find_slice("v5e:1x1"))
    several = dataclasses.replace(TINY, mesh=MeshConfig(steps_at_once=2))
    two = compile_for(several, find_slice("v5e:1x1"))
    assert two.steps == 2 and two.traffic.flops == pytest.approx(2 * one.traffic.flops, rel=0.02)
    assert "a call of 2 steps" in two.sentence()


def test_slices_share_the_batch_alone():
    """Two slices of four chips: only gradients cross between them."""
    found = compile_for(dataclasses.replace(TINY, mesh=MeshConfig(data=2, fsdp=4)), find_slice("v5e:2x2", 2))
    assert found.fits and found.mesh == {"data": 2, "fsdp": 4, "model": 1}
    gathers = [each for each in found.traffic.collectives if each.op == "all-gather"]
    assert gathers and {each.of for each in gathers} == {"weights"}


@pytest.mark.parametrize(("name", "batch"), [("v5e:2x2", 6), ("v5e:4x4", 24), ("v4:2x2x4", 12)])
def test_a_batch_that_leaves_chips_out_is_refused(name, batch):
    """Whatever shape is left of the slice, for which JAX knows no placement."""
    with pytest.raises(ConfigError, match="of the [0-9]+ chips, since train.batch_size"):
        compile_for(dataclasses.replace(TINY, train=TrainConfig(batch_size=batch)), find_slice(name))


def command(*flags):
    return subprocess.run(
        [sys.executable, "-m", "experiments.compile", "--config=quickstart", *flags],
        cwd=ROOT, env=os.environ, capture_output=True, text=True,
    )  # fmt: skip


def test_what_does_not_fit_ends_with_three_and_ways_out(tmp_path):
    batch = "--config.train.batch_size=16384"
    done = command("--topology=v5e:1x1", "--config.model.n_layer=1", batch, f"--json={tmp_path}/found.json")
    assert done.returncode == 3, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["fits"] is False and found["memory_bytes"] > found["memory_limit_bytes"] > 15 * 2**30
    assert found["flops"] is None and found["shares"] is None
    assert "It does not fit" in done.stdout and "--config.mesh.accumulate=" in done.stdout
    assert len(found["ways_out"]) == 3


def test_bad_input_is_one_line():
    done = command("--topology=v5e:3x3")
    assert done.returncode == 1 and done.stderr.startswith("error: there is no topology 'v5e:3x3'; known are")
    assert done.stderr.count("\n") == 1
    with pytest.raises(ConfigError, match="takes 2 of the 4 chips"):
        compile_for(dataclasses.replace(TINY, train=TrainConfig(batch_size=2)), find_slice("v5e:2x2"))


@pytest.mark.paper
@pytest.mark.parametrize("topology", ["v5e:4x4", "v6e:4x4"])
def test_one_layer_of_the_papers_width(topology):
    from circuits_jax.configs.finding import load_config

    config = load_config("paper_8x1024", {"model.n_layer": 1, "mesh.fsdp": 16, "mesh.data": 1})
    found = compile_for(config, find_slice(topology))
    assert found.fits
    assert not [each for each in found.traffic.collectives if each.op == "all-gather" and 256 in each.shape]

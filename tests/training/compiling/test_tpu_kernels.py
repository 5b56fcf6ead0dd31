"""AbsTopK's kernel and attention in blocks through the TPU compiler; nothing is executed.

.ci/check tpu
"""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from circuits_jax.model import attention, kernels
from circuits_jax.model.abs_topk import abs_top_k
from circuits_jax.model.attention import attend
from circuits_jax.model.placement import by_rows, placing
from circuits_jax.model.target import compiling_for
from circuits_jax.training.compiling.costs import count_costs
from circuits_jax.training.compiling.hlo import parse
from circuits_jax.training.compiling.topologies import describe_devices, find_slice

pytestmark = [pytest.mark.slow, pytest.mark.tpu, pytest.mark.computes]
pytest.importorskip("libtpu", reason="needs the extra tpu-compile")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
CHIPS = ["v5e:1x1", "v6e:1x1"]


def compiled(function, topology, *shapes):
    """(the program for one chip, its costs) of arguments that are given as (shape, type)."""
    where = SingleDeviceSharding(describe_devices(find_slice(topology))[0])
    given = [jax.ShapeDtypeStruct(*each, sharding=where) for each in shapes]
    with compiling_for("tpu", 1):
        found = jax.jit(function).lower(*given).compile()
    return found, count_costs(parse(found.as_text()))


def kernel_bytes(costs):
    return [cost.bytes for cost in costs.each if '"tpu_custom_call"' in cost.instruction.attributes]


@pytest.mark.parametrize("topology", CHIPS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(64, 256, 2048), (1, 8192), (5, 7, 300), (3, 24)])
def test_the_kernel_reads_once_and_writes_once(topology, dtype, shape):
    size, itemsize = int(np.prod(shape)), jnp.dtype(dtype).itemsize
    found, costs = compiled(lambda x: abs_top_k(x, shape[-1] // 4), topology, (shape, dtype))
    assert kernel_bytes(costs) == [2 * size * itemsize]

    def total(x, weights):
        return jnp.sum((abs_top_k(x, shape[-1] // 4) * weights).astype(jnp.float32))

    found, costs = compiled(jax.grad(total), topology, (shape, dtype), (shape, dtype))
    assert kernel_bytes(costs) == [2 * size * itemsize + size]  # and a mask of one byte an entry
    print(f"{topology} {dtype.__name__} {shape}: kernel {kernel_bytes(costs)[0] / 2 / size / itemsize:.3f}, "
          f"all {costs.bytes / 2 / size / itemsize:.2f} times one read and one write")  # fmt: skip


@pytest.mark.parametrize("topology", ["v4:2x2x1", "v5e:1x1", "v5p:2x2x1", "v6e:1x1"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("width", [24, 512, 1000, 2048, 8192])
def test_many_narrow_rows_fit_a_chips_vector_memory(topology, dtype, width):
    """Of a row its counts and thresholds take as much as a vector of a chip, whatever its width."""

    def total(x, weights):
        return jnp.sum((abs_top_k(x, width // 4) * weights).astype(jnp.float32))

    shape = (16384, width)
    _, costs = compiled(jax.grad(total), topology, (shape, dtype), (shape, dtype))
    (moved,) = kernel_bytes(costs)
    assert moved == 16384 * width * (2 * jnp.dtype(dtype).itemsize + 1)


def test_the_kernel_moves_a_tenth_of_what_bisection_does():
    shape = ((64, 256, 2048), jnp.float32)
    _, ours = compiled(lambda x: abs_top_k(x, 512), "v5e:1x1", shape)

    def counted(x):
        with kernels.using("none"):
            return abs_top_k(x, 512)

    _, before = compiled(counted, "v5e:1x1", shape)
    print(f"{ours.bytes / 1e9:.3f} GB, by bisection {before.bytes / 1e9:.3f} GB")
    assert 10 * ours.bytes < before.bytes


def test_on_a_mesh_each_chip_runs_the_kernel_on_its_own_rows():
    mesh = Mesh(np.reshape(describe_devices(find_slice("v5e:2x2")), (2, 1, 2)), ("data", "fsdp", "model"))
    x = jax.ShapeDtypeStruct((8, 64, 256), jnp.bfloat16, sharding=NamedSharding(mesh, PartitionSpec("data")))
    with compiling_for("tpu", 4):
        found = jax.jit(placing(lambda x: by_rows(abs_top_k(by_rows(x), 64)), mesh)).lower(x).compile()
    text = found.as_text()
    assert kernel_bytes(count_costs(parse(text))) == [2 * 4 * 64 * 256 * 2]
    assert "all-gather" not in text and "all-reduce" not in text
    with compiling_for("tpu", 4):
        gradient = jax.grad(lambda x, w: jnp.sum(by_rows(abs_top_k(by_rows(x), 64) * w).astype(jnp.float32)))
        text = jax.jit(placing(gradient, mesh)).lower(x, x).compile().as_text()
    assert "tpu_custom_call" in text and "all-gather" not in text and "all-reduce" not in text


def test_attention_over_1024_tokens_keeps_no_scores(monkeypatch):
    """The gradient too: temporaries are fewer than the scores of two heads, where they were those of all."""
    heads = 128
    shape = ((1, heads, 1024, 16), jnp.bfloat16)
    given = (shape, shape, shape, ((heads,), jnp.float32))

    def total(q, k, v, sink):
        return jnp.sum(attend(q, k, v, sink).astype(jnp.float32) ** 2)

    def temporaries(found):
        return found.memory_analysis().temp_size_in_bytes

    found, costs = compiled(jax.grad(total, (0, 1, 2, 3)), "v5e:1x1", *given)
    print(f"{heads} heads: temporaries {temporaries(found) / 1e6:.1f} MB, "
          f"main memory {costs.main_bytes / 1e9:.3f} GB, {costs.flops / 1e9:.1f} GFLOP")  # fmt: skip
    assert temporaries(found) < 2 * 4 * 1024 * 1024 and costs.uncounted == ()
    monkeypatch.setattr(attention, "LONG", 2048)
    before, costs = compiled(jax.grad(total, (0, 1, 2, 3)), "v5e:1x1", *given)
    print(f"all at once: temporaries {temporaries(before) / 1e6:.1f} MB, "
          f"main memory {costs.main_bytes / 1e9:.3f} GB, {costs.flops / 1e9:.1f} GFLOP")  # fmt: skip
    assert temporaries(before) > 4 * heads * 1024 * 1024

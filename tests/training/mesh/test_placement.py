"""Activations stay where they are: on every mesh only weights are gathered, and only gradients reduced."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from circuits_jax.config import Config, MeshConfig, ModelConfig, SparsityConfig, TrainConfig
from circuits_jax.model import kernels
from circuits_jax.model.abs_topk import abs_top_k
from circuits_jax.model.placement import by_rows, placing
from circuits_jax.runs.compile import in_parts
from circuits_jax.training.compiling.collectives import collectives
from circuits_jax.training.compiling.costs import count_costs
from circuits_jax.training.compiling.hlo import parse
from circuits_jax.training.layout import batch_shape, jit_functions, make_layout
from circuits_jax.training.pretraining import pretraining
from tests.quick import quick_cases

# Sizes of which no two are equal or multiples of a context, so that shapes tell what an array is.
CONTEXT, BATCH = 22, 16
CONFIG = Config(
    model=ModelConfig(n_layer=1, d_model=64, d_head=8, n_ctx=CONTEXT, vocab_size=320),
    sparsity=SparsityConfig(target=1 / 8, floor=1),
    train=TrainConfig(batch_size=BATCH),
)
MESHES = {
    "data": MeshConfig(data=8),
    "fsdp": MeshConfig(data=1, fsdp=8),
    "data and fsdp": MeshConfig(data=2, fsdp=4),
    "model": MeshConfig(data=1, model=8),
    "all": MeshConfig(data=2, fsdp=2, model=2),
    "data and fsdp, layers scanned": MeshConfig(data=2, fsdp=4, scan_layers=True),
    "all, layers scanned": MeshConfig(data=2, fsdp=2, model=2, scan_layers=True),
}


def configuration(mesh: MeshConfig) -> Config:
    # Two layers in a loop, of which one is compiled.
    model = dataclasses.replace(CONFIG.model, n_layer=2 if mesh.scan_layers else 1)
    return dataclasses.replace(CONFIG, model=model, mesh=mesh)


def exchanged(config: Config):
    program = pretraining(config)
    layout = make_layout(program, config)
    step = jit_functions(program, layout).step
    module = parse(step.lower(layout.shapes, batch_shape(config, layout), {}).compile().as_text())
    costs = count_costs(module)
    return costs, collectives(module, costs, in_parts((layout.shapes.params, layout.saved.params)), 8)


@pytest.mark.parametrize("mesh", quick_cases(MESHES, ("fsdp",)))
def test_no_gather_holds_a_batch(mesh):
    config = configuration(mesh)
    costs, found = exchanged(config)
    gathers = [each for each in found if each.op == "all-gather"]
    assert [each for each in gathers if CONTEXT in each.shape] == []
    assert {each.of for each in gathers} <= {"weights"}
    if mesh.fsdp > 1:
        assert gathers
    if mesh.model == 1:  # heads and neurons are whole: nothing of an activation leaves its device
        assert {each.of for each in found} <= {"weights", "gradients", "counts"}
    assert {each.of for each in found} >= {"gradients"} if mesh.model < 8 else {"counts"}
    # Every device works on its rows alone: no more products than an eighth of all.
    whole = sum(cost.flops for cost in costs.each) * 8
    tokens = BATCH * CONTEXT
    assert whole == pytest.approx(tokens * pretraining(config).flops_per_token, rel=0.02)


def test_the_gradient_of_the_kernel_adds_up_nothing():
    """Devices along `model` hold the same activations; what they hold in common is no sum."""
    mesh = Mesh(np.reshape(jax.devices()[:4], (2, 1, 2)), ("data", "fsdp", "model"))

    def total(x, weights):
        return jnp.sum(by_rows(abs_top_k(by_rows(x), 16) * weights))

    x, weights = np.random.default_rng(0).normal(size=(2, 4, 40, 64)).astype(np.float32)
    told = jax.grad(total)(x, weights)
    made = jax.jit(placing(jax.grad(total), mesh, kernels.PALLAS)).lower(x, weights).compile()
    np.testing.assert_array_equal(np.asarray(made(x, weights)), told)
    text = made.as_text()
    assert not re.search(r"all-reduce[^\n]*f32\[\d+,40,64\]|f32\[\d+,40,64\][^\n]*all-reduce\(", text)


def test_without_a_mesh_nothing_is_placed():
    x = jax.ShapeDtypeStruct((4, 2), "float32")
    assert "sharding_constraint" not in str(jax.make_jaxpr(by_rows)(x))

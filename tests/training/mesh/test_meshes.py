"""One run on any mesh of eight devices: the same losses, and exactly the same weights that are zero."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.config import MeshConfig
from circuits_jax.model import abs_topk
from circuits_jax.model.blocks import one_cpu
from circuits_jax.sparsity.projection import keep_largest
from circuits_jax.sparsity.schedules import l0_schedule
from circuits_jax.training.layout import first_state, jit_functions, make_layout
from circuits_jax.training.pretraining import pretraining
from tests.quick import quick_cases
from tests.training import meshes
from tests.training.tiny import assert_equal

STEPS = 20
# Whatever brings entries of a tensor to other devices.
MOVES_WEIGHTS = re.compile(r"(all-gather|all-to-all|collective-permute|collective-broadcast)[\w.-]*\(")


def assert_same(losses, expected_losses, state, expected):
    """Losses up to 1e-5 and supports exactly; prints how far they are apart (`pytest -rP` shows it)."""
    pairs = list(zip(jax.tree.leaves(state.params), jax.tree.leaves(expected.params), strict=True))
    apart = np.abs(np.subtract(losses, expected_losses)).max()
    support = sum(np.sum((a == 0) != (b == 0)) for a, b in pairs)
    weights = max(np.abs(a - b).max() for a, b in pairs)
    print(f"losses differ by {apart:.1e}, weights by {weights:.1e}, supports in {support} entries")
    assert apart <= 1e-5 and support == 0


@pytest.fixture(scope="module")
def alone():
    config = meshes.config()
    windows = meshes.batches(config, STEPS)
    return config, windows, *meshes.single(config, windows)


@pytest.mark.parametrize(
    "mesh", ["data", "2x4", *(pytest.param(mesh, marks=pytest.mark.slow) for mesh in ("model", "4x2"))]
)
def test_twenty_steps_are_those_of_one_device(alone, mesh):
    config, windows, losses, state = alone
    there, reached = meshes.run(config, meshes.MESHES[mesh], windows)
    assert losses[0] - losses[-1] > 1  # there was something to get wrong
    assert_same(there, losses, reached, state)
    kernel = state.params["h_0"]["mlp"]["c_fc"]["kernel"]
    assert np.count_nonzero(kernel) == kernel.size // 8


@pytest.mark.parametrize(("mesh", "own"), [("data", True), ("2x4", False)])
def test_devices_that_split_rows_alone_have_them_to_themselves(mesh, own, monkeypatch):
    config, seen = meshes.config(), []
    monkeypatch.setattr(abs_topk, "SMALL", 0)
    monkeypatch.setattr(abs_topk, "one_cpu", lambda: seen.append(one_cpu()) or False)
    program, layout, step = meshes.compiled(config, meshes.MESHES[mesh])
    rows = jax.ShapeDtypeStruct((config.train.batch_size, config.model.n_ctx + 1), jnp.int32)
    lowered = step.lower(layout.shapes, rows, program.frozen)
    assert seen and set(seen) == {own}
    assert lowered.as_text().count("stablehlo.all_reduce") == own  # of all there is, at once
    assert one_cpu()  # in no mesh


def test_what_is_validated_is_that_of_one_device():
    config = meshes.config()
    config = dataclasses.replace(config, mesh=meshes.MESHES["data"])
    program, (rows,) = pretraining(config), meshes.batches(config, 1)
    layout = make_layout(program, config)
    state = first_state(program, layout)
    evaluate = jit_functions(program, layout).evaluate
    spread = evaluate(state.params, jax.device_put(rows, layout.rows), {})
    assert spread[0].sharding.spec[0] == "data"
    alone = jax.jit(program.evaluate)(jax.device_get(state.params), rows)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), spread, alone)


@pytest.mark.slow
def test_a_mesh_of_three_axes_and_parts_of_a_batch_change_nothing_but_rounding(alone):
    config, windows, losses, state = alone
    mesh = MeshConfig(data=2, fsdp=2, model=2, accumulate=2, remat="blocks")
    there, reached = meshes.run(config, mesh, windows)
    assert_same(there, losses, reached, state)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["data", "model", "2x4", "4x2"])
def test_one_step_of_a_wider_model_is_that_of_one_device(mesh):
    """From a state in the middle of a run; over many steps rounding would grow."""
    config = meshes.config(d_model=256, steps=8)
    *windows, last = meshes.batches(config, 6)
    _, state = meshes.single(config, windows)
    (loss,), expected = meshes.single(config, [last], state)
    (there,), reached = meshes.run(config, meshes.MESHES[mesh], [last], state)
    assert_same([there], [loss], reached, expected)


SHARDED = {"2x4": MeshConfig(data=2, model=4), "1x4x2": MeshConfig(data=1, fsdp=4, model=2)}


@pytest.mark.parametrize("mesh", quick_cases(SHARDED, ("1x4x2",)))
def test_the_projection_of_sharded_parameters_exchanges_counts_only(mesh):
    config = dataclasses.replace(meshes.config(), mesh=mesh)
    layout = make_layout(pretraining(config), config)
    transform = keep_largest(l0_schedule(config.sparsity, 20), floor=1)

    def project(params, updates):
        return transform.update(updates, transform.init(params)._replace(step=jnp.int32(15)), params)[0]

    at = layout.state.params
    shapes = layout.shapes.params
    compiled = jax.jit(project, in_shardings=(at, at), out_shardings=at).lower(shapes, shapes).compile()
    text = compiled.as_text()
    assert "all-reduce" in text and not MOVES_WEIGHTS.findall(text)
    rng = np.random.default_rng(0)
    params, updates = (
        jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes) for _ in range(2)
    )
    there = compiled(jax.device_put(params, at), jax.device_put(updates, at))
    assert_equal(jax.device_get(there), jax.device_get(jax.jit(project)(params, updates)))

"""Steps that scan over stacked layers: the run, its files and its figures are those of layers one by one."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from circuits_jax.config import MeshConfig
from circuits_jax.model.parameters import ALL_LAYERS
from circuits_jax.model.stacking import layers_stacked, stack_layers, unstack_layers
from circuits_jax.sparsity.projection import keep_largest
from circuits_jax.sparsity.schedules import L0Schedule
from circuits_jax.storage.errors import ConfigError, TrainingError
from circuits_jax.training.checkpoints import Checkpoints
from circuits_jax.training.compiling.costs import count_costs
from circuits_jax.training.compiling.hlo import parse
from circuits_jax.training.layout import make_layout
from circuits_jax.training.pretraining import pretraining
from tests.sparsity import oracles
from tests.training import meshes
from tests.training.test_loop import breaking
from tests.training.tiny import CONFIG, assert_equal, make_trainer, replace, rows, saved_steps

STEPS, LAYERS = 20, 2
# At a rate of 1e-2 rounding grows to 1e-2 in the loss within these steps: AbsTopK turns it into other units.
# At 3e-3 it did so once, beside other work, and not when that was tried again.
DEEP = replace(
    meshes.config(learning_rate=1e-3),
    "model",
    n_layer=LAYERS,
    activation_locations=("attn_in", "attn_v", "mlp_neuron", "mlp_out"),
)


@pytest.fixture(scope="module")
def runs():
    """{whether layers are scanned: (losses, last state, costs of a step)} of twenty steps at d_model 64."""
    windows, found = meshes.batches(DEEP, STEPS), {}
    for scanned in (False, True):
        program = pretraining(replace(DEEP, "mesh", scan_layers=scanned))
        state = jax.jit(lambda program=program: program.init(None))()
        step, losses = jax.jit(program.step).lower(state, windows[0]).compile(), []
        for each in windows:
            state, metrics = step(state, each)
            losses.append(float(metrics["loss"]))
        found[scanned] = np.array(losses), jax.device_get(state), count_costs(parse(step.as_text()))
    return found


def test_twenty_steps_are_those_of_layers_one_by_one(runs):
    (losses, state, _), (scanned, stacked, _) = runs[False], runs[True]
    assert losses[0] - losses[-1] > 0.4  # there was something to get wrong
    np.testing.assert_allclose(scanned, losses, atol=1e-5)
    assert layers_stacked(stacked.params) and not layers_stacked(state.params)
    there = jax.device_get(unstack_layers(stacked))
    assert jax.tree.structure(there) == jax.tree.structure(state)
    pairs = list(zip(jax.tree.leaves(there.params), jax.tree.leaves(state.params), strict=True))
    assert sum(np.sum((a == 0) != (b == 0)) for a, b in pairs) == 0


def test_scanned_and_unrolled_layers_report_the_same_operations(runs):
    unrolled, scanned = runs[False][2], runs[True][2]
    assert scanned.flops == pytest.approx(unrolled.flops, rel=0.02)
    tokens = DEEP.train.batch_size * DEEP.model.n_ctx
    assert scanned.flops == pytest.approx(tokens * pretraining(DEEP).flops_per_token, rel=0.02)


def test_checkpoints_of_both_forms_are_the_same(whole, fresh):
    """A scanned run is stopped, ends as an unrolled one, and is opened as a scanned one."""
    config, corpus, workdir = fresh
    scanning = replace(config, "mesh", scan_layers=True)
    spoil = lambda state, metrics: (state, metrics | {"loss": np.float32(np.nan)})  # noqa: E731
    with pytest.raises(TrainingError, match="step 7; checkpoint 4 is intact"):
        breaking(make_trainer(scanning, corpus, workdir), 7, spoil).run()
    assert saved_steps(workdir) == [4]
    state = make_trainer(config, corpus, workdir).run()
    for there, here in zip(jax.tree.leaves(state), jax.tree.leaves(whole[2]), strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-3, atol=1e-5)
    for there, here in zip(rows(workdir), rows(whole[0]), strict=True):
        assert there == pytest.approx(here, rel=1e-3, abs=1e-3, nan_ok=True)
    assert_equal(make_trainer(scanning, corpus, workdir).run(), state)


def test_a_stack_comes_back_from_layers_on_disk(tmp_path):
    config = replace(replace(CONFIG, "model", n_layer=3), "mesh", scan_layers=True)
    layout = make_layout(pretraining(config), config)
    rng = np.random.default_rng(0)
    saved = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), layout.saved)
    assert_equal(unstack_layers(stack_layers(saved)), saved)
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(4, saved)
    params = checkpoints.restore_params(layout.saved.params)
    checkpoints.close()
    kernel = stack_layers(params)[ALL_LAYERS]["attn"]["c_attn"]["kernel"]
    expected = [saved.params[f"h_{layer}"]["attn"]["c_attn"]["kernel"] for layer in range(3)]
    np.testing.assert_array_equal(kernel, expected)


def test_a_stack_is_split_as_its_layers_are():
    mesh = {"data": 2, "fsdp": 2, "model": 2}
    config = replace(DEEP, "mesh", **mesh)
    apart = make_layout(pretraining(config), config)
    config = replace(config, "mesh", scan_layers=True)
    layout = make_layout(pretraining(config), config)
    assert_same_shardings(layout.saved, apart.shapes)
    for trees in (
        (layout.state.params, apart.state.params),
        (layout.state.opt_state[1].mu, apart.state.params),
    ):
        stack, layer = (
            jax.tree.leaves(tree[name]) for tree, name in zip(trees, (ALL_LAYERS, "h_1"), strict=True)
        )
        assert [leaf.spec for leaf in stack] == [PartitionSpec(None, *leaf.spec) for leaf in layer]
    assert layout.state.params["wte"] == apart.state.params["wte"]


def assert_same_shardings(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert (a.shape, a.sharding) == (b.shape, b.sharding)


def test_rules_that_split_layers_in_different_ways_are_refused():
    mesh = MeshConfig(data=4, model=2, scan_layers=True, rules=("h_0/mlp/c_fc/kernel = -",))
    config = dataclasses.replace(DEEP, mesh=mesh)
    with pytest.raises(ConfigError, match=r"mesh\.scan_layers stacks the layers, and mesh\.rules split"):
        make_layout(pretraining(config), config)


def test_each_layer_of_a_stack_keeps_its_own_budget():
    layers = {f"h_{layer}": oracles.SHAPES["h_0"] for layer in range(3)}
    rng = np.random.default_rng(0)
    params = oracles.random_tree(rng, shapes=oracles.SHAPES | layers)
    updates = oracles.random_tree(rng, 0.1, shapes=oracles.SHAPES | layers)
    params["h_1"] = jax.tree.map(lambda leaf: 100 * leaf, params["h_1"])  # would take all of a common budget
    transform = keep_largest(L0Schedule(0.25), floor=2)

    @jax.jit
    def project(params, updates):
        return transform.update(updates, transform.init(params), params)[0]

    expected = project(params, updates)
    assert_equal(unstack_layers(project(stack_layers(params), stack_layers(updates))), expected)

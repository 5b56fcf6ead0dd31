import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.circuits.pruning.runner import (
    PAIRS,
    RUNS,
    Runner,
    axis_sizes,
    choose_batching,
    replicate,
    split_devices,
)
from circuits_jax.storage.errors import ConfigError

BATCHINGS = pytest.mark.parametrize("batching", ["map", "vmap"])


def affine(shared, item):
    return {"y": shared * item["x"] + item["b"], "sum": item["x"].sum()}


def items_of(count):
    rng = np.random.default_rng(count)
    return [{"x": rng.normal(size=3).astype(np.float32), "b": np.float32(i)} for i in range(count)]


@BATCHINGS
@pytest.mark.parametrize("devices", [1, 3, 8])
def test_results_are_those_of_each_item_in_order(batching, devices):
    runner = Runner(affine, jax.devices()[:devices], batching)
    for count in (1, 2, 7, 8, 19):
        items = items_of(count)
        found = runner(np.float32(2), items)
        assert len(found) == count
        for item, result in zip(items, found, strict=True):
            np.testing.assert_allclose(result["y"], 2 * item["x"] + item["b"], rtol=1e-6)
            np.testing.assert_allclose(result["sum"], item["x"].sum(), rtol=1e-5)


def test_nothing_gives_nothing():
    assert Runner(affine, jax.devices(), "map")(np.float32(2), []) == []


def test_pruning_probes_and_audit_trace_a_function_once_for_each_of_few_capacities():
    chex.clear_trace_counter()
    # Twice for each program: once for the shapes of the results, once within the loop over items.
    runner = Runner(chex.assert_max_traces(affine, n=4), jax.devices()[:2], "map")
    for count in range(1, 17):
        runner(np.float32(2), items_of(count))
    assert runner.compilations == 1
    for count in (33, 40, 5):
        runner(np.float32(2), items_of(count))
    assert runner.compilations == 2


def test_mapped_items_beyond_the_last_are_not_computed():
    seen = []

    def noted(shared, item):
        jax.debug.callback(lambda x: seen.append(float(x)), item)
        return item + shared

    runner = Runner(noted, jax.devices()[:2], "map")
    runner(np.float32(1), [np.float32(i) for i in (5, 6, 7)])
    jax.effects_barrier()
    assert sorted(seen) == [5, 6, 7]


@pytest.mark.parametrize(
    ("runs", "shape"), [(1, (1, 8)), (3, (1, 8)), (4, (4, 2)), (6, (2, 4)), (16, (8, 1))]
)
def test_devices_go_to_runs_first_and_what_is_left_to_pairs(runs, shape):
    mesh = split_devices(jax.devices(), runs)
    assert (mesh.shape[RUNS], mesh.shape[PAIRS]) == shape


def test_what_is_left_of_the_devices_splits_the_pairs():
    part = Runner(
        lambda shared, item: jax.lax.psum(item * (1 + jax.lax.axis_index(PAIRS)), PAIRS),
        jax.devices(),
        "map",
        pairs=8,
    )
    assert part((), [jnp.float32(1), jnp.float32(3)]) == [10, 30]


@BATCHINGS
def test_rounds_give_what_one_call_gives(batching):
    runner = Runner(affine, jax.devices()[:2], batching)
    items = items_of(37)  # more than one round of two devices
    for one, other in zip(runner.in_rounds(np.float32(2), items), runner(np.float32(2), items), strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_replicated_arrays_are_on_every_device():
    there = replicate({"a": np.arange(3)}, jax.devices())["a"]
    assert there.sharding.is_fully_replicated and len(there.sharding.device_set) == 8


def test_batching_is_chosen_by_the_backend_and_a_wrong_one_is_refused():
    assert choose_batching("auto") == "map"  # these tests run on CPU
    assert [choose_batching(name) for name in ("map", "vmap")] == ["map", "vmap"]
    with pytest.raises(ConfigError, match="auto, vmap, map"):
        choose_batching("pmap")


def test_from_one_device_to_sixty_four_runs_and_pairs_are_shared_out_evenly():
    for devices in range(1, 65):
        for runs in (1, 2, 3, 5, 8, 12):
            for pairs in (0, 7, 8, 60, 64):
                along, parts = axis_sizes(devices, runs, pairs)
                assert runs % along == 0 and pairs % parts == 0 and 1 <= along * parts <= devices
                if pairs % devices == 0:  # none need be left out
                    assert along * parts == devices
    assert axis_sizes(3, 1, 64) == (1, 2)
    assert axis_sizes(3, 3, 64) == (3, 1)
    assert axis_sizes(7, 1, 7) == (1, 7)


@pytest.mark.parametrize("devices", [3, 5, 7])
def test_devices_that_divide_neither_runs_nor_pairs_are_left_out(devices):
    part = Runner(lambda shared, item: jax.lax.psum(item, PAIRS), jax.devices()[:devices], "map", pairs=4)
    used = 2 if devices == 3 else 4
    assert part((), [jnp.float32(1)]) == [used]

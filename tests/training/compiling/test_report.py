"""What is told of a compiled program, of one that the compiler refuses, and of what would make it fit."""

import dataclasses
import json

import jax
import pytest

from circuits_jax.config import MeshConfig
from circuits_jax.model.blocks import one_cpu
from circuits_jax.model.placement import placing
from circuits_jax.model.target import compiling_for
from circuits_jax.model.transformer import init_params
from circuits_jax.runs import compile_tables
from circuits_jax.runs.compile import WHATS, report_on, workload
from circuits_jax.runs.ways_out import estimated_items, ways_out, with_settings
from circuits_jax.storage.errors import ConfigError
from circuits_jax.training.compiling.refusals import is_refusal, read_refusal
from circuits_jax.training.compiling.shares import SHARES
from circuits_jax.training.compiling.topologies import find_slice
from circuits_jax.training.mesh.meshes import make_mesh
from circuits_jax.training.pretraining import flops_per_token
from tests.quick import quick_cases
from tests.training.tiny import CONFIG, replace

KEYS = ("fits", "memory_bytes", "memory_limit_bytes", "flops", "bytes", "bound", "shares", "collectives")
LOCATIONS = ("attn_v", "mlp_neuron")
EVEN = replace(CONFIG, "model", vocab_size=304, bigram="learned", activation_locations=LOCATIONS)


def report(what="train", config=EVEN, devices=1):
    """The report of a program compiled for CPU devices, as if they were TPUs."""
    found = jax.devices()[:devices]
    slices = dataclasses.replace(find_slice("v5e:1x1"), count=devices)
    return report_on(lambda: workload(config, what, found), slices, what)


@pytest.fixture(scope="module")
def train():
    return report()


def test_a_chips_smaller_memories_are_refused_alike_and_not_taken_for_the_main_one(train):
    words = "RESOURCE_EXHAUSTED: Ran out of memory in memory space vmem. Used 17.49M of 16.00M vmem."
    assert is_refusal(words) and not is_refusal("INTERNAL: vmem")
    found = read_refusal(words)
    assert (found.needed, found.available) == (None, None) and "17.49M" in found.message
    refused = dataclasses.replace(train, memory=None, traffic=None, refusal=found)
    assert not refused.fits and refused.sentence().startswith("It does not fit: the compiler finds no room")
    assert refused.to_json()["memory_bytes"] is None and "17.49M" in refused.to_json()["refusal"]["message"]


def test_the_json_has_what_scripts_read(train):
    written = json.loads(json.dumps(train.to_json()))
    assert set(KEYS) <= set(written)
    assert written["fits"] is True and written["bound"] in ("memory", "compute", "network")
    assert written["memory_limit_bytes"] == find_slice("v5e:1x1").chip.memory
    memory = written["memory"]
    params = jax.eval_shape(lambda: init_params(EVEN.model, jax.random.key(0)))
    state = 12 * sum(leaf.size for leaf in jax.tree.leaves(params))
    assert 0 <= memory["arguments"] - state < 20_000  # the batch, counts and a key beside it
    assert memory["aliased"] >= state  # donated
    together = sum(memory.values()) - 2 * memory["aliased"]
    assert written["memory_bytes"] == together and written["collectives"] == []
    assert sum(written["shares"].values()) == pytest.approx(1)


def test_a_steps_operations_are_those_of_its_products(train):
    tokens = EVEN.train.batch_size * EVEN.model.n_ctx
    assert train.traffic.flops == pytest.approx(tokens * flops_per_token(EVEN.model), rel=0.02)
    assert train.traffic.uncounted == ()


def test_every_part_of_a_step_has_its_share(train):
    shares = train.traffic.shares
    assert tuple(shares) == SHARES and sum(shares.values()) == pytest.approx(1)
    assert all(share > 0.001 for share in shares.values()), shares


def test_the_table_ends_in_one_plain_sentence(train):
    *_, sentence = compile_tables.describe(train).splitlines()
    assert sentence == train.sentence() and sentence.startswith("It fits, with ")
    assert "of the 15.8 GiB" in sentence and "is bound by memory traffic" in sentence


def test_what_takes_longest_at_its_peak_bounds(train):
    slow = dataclasses.replace(train.slices.chip, flops=1.0)
    bound = dataclasses.replace(train, slices=dataclasses.replace(train.slices, chip=slow))
    assert bound.bound == "compute" and bound.seconds["compute"] == train.traffic.flops


def test_a_chip_with_less_memory_does_not_hold_it(train):
    small = dataclasses.replace(train.slices.chip, memory=train.memory.total - 1)
    tight = dataclasses.replace(train, slices=dataclasses.replace(train.slices, chip=small))
    assert not tight.fits and tight.sentence().startswith("It does not fit")
    enough = dataclasses.replace(small, memory=train.memory.total)
    assert dataclasses.replace(train, slices=dataclasses.replace(train.slices, chip=enough)).fits


@pytest.mark.slow
def test_a_mesh_of_devices_exchanges_gradients():
    found = report(config=dataclasses.replace(EVEN, mesh=MeshConfig(data=2)), devices=2)
    written = found.to_json()
    assert {each["of"] for each in written["collectives"]} == {"gradients", "counts"}
    assert written["network_bytes"] > 0 and written["mesh"] == {"data": 2, "fsdp": 1, "model": 1}
    assert all(isinstance(size, int) for each in written["collectives"] for size in each["shape"])


@pytest.mark.parametrize("what", quick_cases({what: what for what in WHATS}, ("evaluate", "generate")))
def test_every_program_can_be_compiled(what):
    config = replace(EVEN, "prune", batch_pairs=4, train_pairs=8)
    found = report(what, config)
    assert found.fits and found.traffic.flops > 0
    assert found.traffic.shares["attention"] > 0 and found.traffic.shares["abs_topk"] > 0


def test_meshes_that_leave_chips_out_are_refused():
    devices = jax.devices()[:3]
    with pytest.raises(ConfigError, match="takes 2 of the 3 chips"):
        workload(EVEN, "train", devices)
    with pytest.raises(ConfigError, match="does not divide the 3 devices"):
        workload(dataclasses.replace(EVEN, mesh=MeshConfig(data=2)), "train", devices)
    with pytest.raises(ConfigError, match="train.batch_size is 8"):
        workload(dataclasses.replace(EVEN, mesh=MeshConfig(data=3)), "train", devices)
    with pytest.raises(ConfigError, match="--what"):
        workload(EVEN, "dance", devices)


def test_what_runs_elsewhere_is_not_traced_for_this_cpu():
    with compiling_for("cpu", 1):
        assert one_cpu()
        with compiling_for("tpu", 1):
            assert not one_cpu()
        assert one_cpu()
    mesh, seen = make_mesh(MeshConfig(data=8)), list[bool]()
    placing(lambda: seen.append(one_cpu()), mesh)()
    assert seen == [False] and one_cpu()  # arrays that are spread over devices, and those that are not


def test_ways_out_are_those_that_fit_by_estimate():
    devices = jax.devices()[:4]
    large = with_settings(EVEN, {"model.n_ctx": 128, "train.batch_size": 64, "model.n_layer": 2})
    needed = sum(estimated_items(large, devices).values())
    found = ways_out(large, devices, needed, limit=0.6 * needed)
    fitting = [way.bytes <= 0.6 * needed for way in found]
    assert len(found) == 3 and fitting == sorted(fitting, reverse=True) and any(fitting)
    assert found[0].settings == {"mesh.accumulate": 2}
    for way in found:
        assert sum(estimated_items(with_settings(large, way.settings), devices).values()) == way.bytes
    double = ways_out(large, devices, 2 * needed, limit=1.2 * needed)  # the compiler says twice the estimate
    assert [way.settings for way in double] == [way.settings for way in found]


def test_where_nothing_fits_the_smallest_are_told():
    devices = jax.devices()[:1]
    needed = sum(estimated_items(EVEN, devices).values())
    found = ways_out(EVEN, devices, needed, limit=1)
    assert found and [way.bytes for way in found] == sorted(way.bytes for way in found)


def test_a_refusal_is_read():
    message = (
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required "
        "for HLO temporaries (23.84G) exceeds available HBM (15.75G). HLO module: jit_f.\nSee the page."
    )
    assert is_refusal(message) and not is_refusal("INTERNAL: the HBM is not asked")
    found = read_refusal(message)
    assert found.needed == int(23.84 * 2**30) and found.available == int(15.75 * 2**30)


def test_a_refused_program_is_told_all_the_same(train):
    refusal = read_refusal("RESOURCE_EXHAUSTED: nobody knows why")
    refused = dataclasses.replace(train, memory=None, traffic=None, refusal=refusal)
    written = json.loads(json.dumps(refused.to_json()))
    assert written["fits"] is False and written["memory_limit_bytes"] == train.memory_limit
    assert {written[key] for key in KEYS if key not in ("fits", "memory_limit_bytes")} == {None}
    assert "the compiler refuses" in compile_tables.describe(refused)

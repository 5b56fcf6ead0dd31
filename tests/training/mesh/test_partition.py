"""Rules: the first match wins, and whatever is wrong with a table is named."""

import dataclasses
import types

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from circuits_jax.config import Config, MeshConfig, ModelConfig
from circuits_jax.model.transformer import init_params
from circuits_jax.storage.errors import ConfigError
from circuits_jax.training.layout import first_state, make_layout
from circuits_jax.training.mesh import meshes, partition
from circuits_jax.training.mesh.meshes import axis_sizes, local_rows, make_mesh
from circuits_jax.training.mesh.partition import PartitionRule, parse_rules
from circuits_jax.training.pretraining import pretraining
from tests.training.tiny import CONFIG, replace

MESH = MeshConfig(data=2, fsdp=2, model=2)
TREE = {"a": {"kernel": np.zeros((8, 4))}, "b": {"kernel": np.zeros((4, 8)), "bias": np.zeros(8)}}


def specs(rules, tree=TREE, mesh=MESH):
    placed = partition.shardings(tree, rules, make_mesh(mesh))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.spec
        for path, leaf in jax.tree_util.tree_leaves_with_path(placed)
    }


def test_the_first_match_wins():
    rules = [
        PartitionRule("a/kernel", ("model",)),
        PartitionRule("kernel", ("fsdp", "model")),
        PartitionRule("bias", (None,)),
    ]
    assert specs(rules) == {"a/kernel": P("model"), "b/kernel": P("fsdp", "model"), "b/bias": P(None)}
    with pytest.raises(ConfigError, match="no parameter is left for the partition rule 'a/kernel"):
        specs([rules[1], rules[0], rules[2]])


def test_axes_of_one_device_split_nothing():
    rules = [PartitionRule("kernel", ("fsdp", "model")), PartitionRule("bias", (("data", "model"),))]
    assert specs(rules, mesh=MeshConfig(data=4, model=2)) == {
        "a/kernel": P(None, "model"),
        "b/kernel": P(None, "model"),
        "b/bias": P(("data", "model")),
    }


def test_rules_are_read_as_they_are_shown():
    (rule,) = parse_rules([r" h_\d+/x = fsdp, - , data+model"])
    assert rule == PartitionRule(r"h_\d+/x", (("fsdp",), None, ("data", "model")))
    assert parse_rules([str(rule)]) == (rule,)


def test_a_pattern_may_refer_to_its_own_groups():
    (rule,) = parse_rules([r"(a|b)/\1/kernel = model"])
    assert rule.matches("a/a/kernel") and rule.matches("h/b/b/kernel") and not rule.matches("a/b/kernel")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kernel", "of the form 'pattern = axis"),
        ("= model", "of the form"),
        ("kernel = tensor", "axis 'tensor', which no mesh has; choose of data, fsdp, model"),
        ("(kernel = model", "cannot be read"),
        ("(?i)kernel = model", "cannot be read"),
        ("kernel = model, model", "names an axis twice"),
        ("kernel = -, fsdp+fsdp", "names an axis twice"),
    ],
)
def test_rules_that_cannot_be_read_are_refused(text, words):
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        parse_rules([text])


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ([PartitionRule("kernel", ("model",))], r"no partition rule matches the parameter 'b/bias'"),
        (
            [PartitionRule("kernel"), PartitionRule("bias"), PartitionRule("wpe")],
            r"no parameter is left for the partition rule 'wpe = -'",
        ),
        (
            [PartitionRule("kernel"), PartitionRule("bias", ("model", "fsdp"))],
            r"is for 2 dimensions, but b/bias has 1",
        ),
        ([PartitionRule("ernel")], r"no partition rule matches the parameter 'a/kernel'"),
    ],
)
def test_tables_that_do_not_fit_are_refused(rules, words):
    with pytest.raises(ConfigError, match=words):
        specs(rules)


def test_a_dimension_that_the_mesh_does_not_divide_is_named():
    tree = {"kernel": np.zeros((6, 4))}
    with pytest.raises(ConfigError, match=r"kernel has the shape 6 x 4, and fsdp = 4 does not divide 6"):
        specs([PartitionRule("kernel", ("fsdp",))], tree, MeshConfig(data=2, fsdp=4))


VARIANTS = [
    {},
    {"bias": False, "attention_sink": False, "bigram": False, "tied_unembed": True},
    {"norm": "layer", "position": "add", "logits_bias": True, "bigram": True},
    {"position": "concat", "d_pos": 8},
]


@pytest.mark.parametrize("values", VARIANTS, ids=str)
def test_the_model_s_table_fits_every_kind_of_model(values):
    config = dataclasses.replace(ModelConfig(d_model=32, vocab_size=64, n_layer=2, n_ctx=16), **values)
    shapes = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    placed = partition.shardings(shapes, partition.model_rules(config), make_mesh(MESH))
    split = [
        leaf.size
        for leaf, at in zip(jax.tree.leaves(shapes), jax.tree.leaves(placed), strict=True)
        if any(at.spec)
    ]
    assert sum(split) > 0.9 * sum(leaf.size for leaf in jax.tree.leaves(shapes))


def test_own_rules_come_first_and_replace_those_of_the_program():
    config = replace(replace(CONFIG, "model", vocab_size=304), "mesh", model=2, rules=("lm_head/kernel = -",))
    layout = make_layout(pretraining(config), config)
    assert layout.state.params["lm_head"]["kernel"].spec == P(None)
    assert layout.state.params["wte"]["embedding"].spec == P("model", None)


@pytest.mark.parametrize("rule", ["nonsense = model", "lm_head/kernel = -, -, model"])
def test_own_rules_that_decide_nothing_or_do_not_fit_are_refused(rule):
    config = replace(CONFIG, "mesh", rules=(rule,))
    with pytest.raises(ConfigError, match=rule.split(" ")[0]):
        make_layout(pretraining(config), config)


def test_no_device_holds_a_whole_state():
    config = replace(replace(CONFIG, "model", vocab_size=304, d_model=64), "mesh", data=1, fsdp=4, model=2)
    program = pretraining(config)
    layout = make_layout(program, config)
    state = first_state(program, layout)
    for tree, expected in ((state.params, layout.state.params), (state.opt_state, layout.state.opt_state)):
        for leaf, sharding in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
            assert leaf.sharding == sharding
    held = {shard.device: 0 for shard in state.params["wte"]["embedding"].addressable_shards}
    for leaf in jax.tree.leaves(state):
        for shard in leaf.addressable_shards:
            held[shard.device] += shard.data.nbytes
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert len(held) == 8 and max(held.values()) < 0.2 * whole
    mu, params = state.opt_state[1].mu, state.params
    assert all(
        a.sharding == b.sharding for a, b in zip(jax.tree.leaves(mu), jax.tree.leaves(params), strict=True)
    )


@pytest.mark.parametrize(
    ("mesh", "words"),
    [
        (MeshConfig(model=3), "mesh.data -1, mesh.fsdp 1, mesh.model 3 does not divide the 8 devices"),
        (MeshConfig(data=2, model=2), "mesh.data 2, mesh.fsdp 1, mesh.model 2 does not divide the 8 devices"),
        (MeshConfig(data=16), "mesh.data 16"),
    ],
)
def test_a_mesh_that_does_not_divide_the_devices_is_refused(mesh, words):
    with pytest.raises(ConfigError, match=words):
        make_mesh(mesh)


def test_a_mesh_takes_the_devices_that_are_left():
    assert dict(make_mesh(MeshConfig(model=2)).shape) == {"data": 4, "fsdp": 1, "model": 2}
    assert dict(make_mesh(MeshConfig(data=1, fsdp=-1)).shape) == {"data": 1, "fsdp": 8, "model": 1}
    with pytest.raises(ConfigError, match="only one may be -1"):
        MeshConfig(data=-1, model=-1)


def test_slices_divide_the_batchs_axis_or_are_refused():
    chips = [types.SimpleNamespace(process_index=i // 2, slice_index=i // 3) for i in range(6)]
    with pytest.raises(ConfigError, match="mesh.data comes out at 3, which 2 slices do not divide"):
        make_mesh(MeshConfig(data=3, fsdp=2), devices=chips)


def test_a_batch_that_does_not_divide_the_mesh_is_refused():
    mesh = MeshConfig(data=2, fsdp=2, model=2)
    assert axis_sizes(mesh, 8, 12) == (2, 2, 2)
    with pytest.raises(ConfigError, match=r"train\.batch_size is 10, which 4 devices.*multiple of 4"):
        axis_sizes(mesh, 8, 10)
    with pytest.raises(ConfigError, match=r"mesh\.accumulate 2.*multiple of 8"):
        axis_sizes(dataclasses.replace(mesh, accumulate=2), 8, 12)
    config = Config(mesh=MeshConfig(data=8), train=dataclasses.replace(CONFIG.train, batch_size=12))
    with pytest.raises(ConfigError, match=r"train\.batch_size is 12"):
        make_layout(pretraining(config), config)


def test_one_process_reads_the_whole_batch():
    mesh = make_mesh(MeshConfig(model=2))
    np.testing.assert_array_equal(local_rows(mesh, 16), np.arange(16))


class HalfOfTheMesh:
    """A sharding of which another process holds every second device."""

    def __init__(self, sharding):
        self._sharding = sharding

    def addressable_devices_indices_map(self, shape):
        return dict(list(self._sharding.devices_indices_map(shape).items())[::2])


@pytest.mark.parametrize(
    ("mesh", "expected"),
    [
        (
            MeshConfig(data=8),
            [0, 1, 4, 5, 8, 9, 12, 13],
        ),  # not one stretch: devices of two hosts may alternate
        (MeshConfig(data=4, model=2), list(range(16))),  # processes that differ along model read the same
    ],
    ids=str,
)
def test_a_process_reads_the_rows_of_its_own_devices(monkeypatch, mesh, expected):
    rows = meshes.rows
    monkeypatch.setattr(meshes, "rows", lambda mesh: HalfOfTheMesh(rows(mesh)))
    np.testing.assert_array_equal(local_rows(make_mesh(mesh), 16), expected)

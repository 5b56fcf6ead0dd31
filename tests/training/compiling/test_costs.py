"""Programs compiled here, for the CPU: figures against what is counted by hand, and against XLA's own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from circuits_jax.model import scopes
from circuits_jax.runs.compile import in_parts
from circuits_jax.training.compiling.collectives import collectives
from circuits_jax.training.compiling.costs import convolution_flops, count_costs
from circuits_jax.training.compiling.hlo import Instruction, parse, shapes
from circuits_jax.training.compiling.shares import byte_shares
from circuits_jax.training.layout import batch_shape, jit_functions, make_layout
from circuits_jax.training.pretraining import pretraining
from tests.jax_settings import jax_settings
from tests.training.tiny import CONFIG, replace

M, K, N, LAYERS = 16, 32, 24, 8


def compiled(function, *arguments):
    with jax_settings({"jax_compilation_cache_include_metadata_in_key": True}):  # scopes are metadata
        found = jax.jit(function).lower(*arguments).compile()
    module = parse(found.as_text())
    return found, module, count_costs(module)


def test_a_product_in_a_scan_counts_as_often_as_it_turns():
    weights, x = jnp.ones((LAYERS, K, K)), jnp.ones((M, K))

    def scanned(weights, x):
        return lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

    found, _, costs = compiled(scanned, weights, x)
    assert costs.flops == LAYERS * 2 * M * K * K and costs.uncounted == ()
    assert found.cost_analysis()["flops"] < 2 * 2 * M * K * K + 10 * M * K  # which is why we count


def test_scanned_and_unrolled_layers_report_the_same():
    weights, x = jnp.ones((LAYERS, K, K)), jnp.ones((M, K))

    def loss(unroll):
        def scanned(weights, x):
            y = lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights, unroll=unroll)[0]
            return jnp.sum(y * y)

        return jax.grad(scanned, argnums=(0, 1))

    _, _, rolled = compiled(loss(1), weights, x)
    _, _, flat = compiled(loss(LAYERS), weights, x)
    assert rolled.flops == flat.flops == 3 * LAYERS * 2 * M * K * K


def test_nested_loops_multiply():
    def nested(x):
        return lax.fori_loop(0, 3, lambda _, x: lax.fori_loop(2, 7, lambda _, y: y @ x * 0.1, x), x)

    _, _, costs = compiled(nested, jnp.ones((K, K)))
    assert costs.flops == 3 * 5 * 2 * K**3


def test_a_loop_that_only_the_data_end_counts_as_its_scope_says():
    def search(x):
        with scopes.about_turns(12):
            return lax.while_loop(lambda x: jnp.sum(x) < 1e9, lambda x: x @ x, x)

    _, _, costs = compiled(search, jnp.ones((K, K)))
    assert costs.flops == 12 * 2 * K**3 and costs.uncounted == ()
    _, _, unmarked = compiled(
        lambda x: lax.while_loop(lambda x: jnp.sum(x) < 1e9, lambda x: x @ x, x), jnp.ones((K, K))
    )
    assert unmarked.flops == 2 * K**3 and len(unmarked.uncounted) == 1


@pytest.mark.parametrize("rare, products", [(True, 1), (False, 3), (None, 3)])
def test_a_rare_branch_costs_nothing(rare, products):
    def choose(x, flag):
        with scopes.rarely(rare) if rare is not None else jax.named_scope("unmarked"):
            return lax.cond(flag, lambda: x @ x @ x @ x, lambda: x @ x)

    _, _, costs = compiled(choose, jnp.ones((K, K)), True)
    assert costs.flops == products * 2 * K**3


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: a @ b,
        lambda a, b: jnp.tanh(a) + 1,
        lambda a, b: (a.T + 1, b * b),
        lambda a, b: jnp.einsum("bmk,bnk->bmn", a.reshape(4, 4, K), b.reshape(4, 6, K)),
    ],
    ids=["product", "elementwise", "two results", "batched"],
)
def test_without_loops_figures_are_xlas_own(function):
    a, b = jnp.ones((M, K)), jnp.ones((K, N))
    found, _, costs = compiled(function, a, b)
    theirs = found.cost_analysis()
    assert costs.bytes == pytest.approx(theirs["bytes accessed"], rel=0.02)
    if costs.flops:
        assert costs.flops == pytest.approx(theirs["flops"], rel=0.02)


def test_a_stack_of_layers_is_read_a_layer_a_turn():
    weights, x = jnp.ones((64, K, K)), jnp.ones((1, K))
    _, _, costs = compiled(lambda w, x: lax.scan(lambda x, w: (x @ w, None), x, w)[0], weights, x)
    assert weights.nbytes <= costs.bytes <= 4 * weights.nbytes  # not 64 times the whole


@pytest.mark.parametrize(
    "image, kernel, pad, stride, dilate", [(9, 3, 0, 1, 1), (9, 3, 1, 2, 1), (5, 4, 3, 1, 2)]
)
def test_operations_of_a_convolution_are_those_of_its_loops(image, kernel, pad, stride, dilate):
    spread = (image - 1) * dilate + 1
    result = (spread + 2 * pad - kernel) // stride + 1
    touched = sum(
        0 <= (at := i * stride - pad + j) < spread and at % dilate == 0
        for i in range(result)
        for j in range(kernel)
    )
    window = f"window={{size={kernel} stride={stride} pad={pad}_{pad} lhs_dilate={dilate}}}"
    left, right, out = shapes(f"f32[2,{image},3] f32[{kernel},3,5] f32[2,{result},5]")
    call = Instruction("c", "convolution", (out,), ("a", "b"), "", f", {window}, dim_labels=b0f_0io->b0f")
    assert convolution_flops(call, left, right) == 2 * 2 * 5 * 3 * touched


def test_a_batched_product_as_tpus_write_it():
    batch = 4  # a convolution whose axis is the batch, all but one of whose places are padding
    window = f"window={{size={batch} stride={batch - 1} lhs_dilate={batch}}}"
    left, right, out = shapes(f"bf16[{batch},{M},{K}] bf16[{batch},{K},{N}] bf16[{batch},{M},{N}]")
    call = Instruction("c", "convolution", (out,), ("a", "b"), "", f", {window}, dim_labels=0bf_0io->0bf")
    assert convolution_flops(call, left, right) == batch * 2 * M * K * N


PREFETCHED = """HloModule m

ENTRY main {
  %stack = f32[4,8,16]{2,1,0} parameter(0)
  %begun = ((f32[4,8,16]{2,1,0}), f32[1,8,16]{2,1,0:S(1)}, s32[]) slice-start(%stack), slice={[0:1], [0:8]}
  %layer = f32[1,8,16]{2,1,0:S(1)} slice-done(%begun)
  %room = f32[1,8,16]{2,1,0} custom-call(), custom_call_target="AllocateBuffer"
  ROOT %sum = f32[1,8,16]{2,1,0} add(%layer, %room), metadata={op_name="jit(f)/projection/add"}
}
"""


def test_a_slice_that_is_fetched_ahead_is_read_and_written_once():
    module = parse(PREFETCHED)
    costs = count_costs(module)
    part = 4 * 8 * 16
    assert costs.bytes == 2 * part + 3 * part  # the slice, then the sum; the memory asked for moves nothing
    assert costs.main_bytes == part + 2 * part
    assert byte_shares(module, costs)["projection"] == 1.0


@pytest.mark.slow
def test_what_is_left_out_loses_its_share():
    config = replace(replace(CONFIG, "sparsity", target=1.0), "model", activation_fraction=None)
    program = pretraining(config)
    layout = make_layout(program, config, jax.devices()[:1])
    lowered = jit_functions(program, layout).step.lower(layout.shapes, batch_shape(config, layout), {})
    module = parse(lowered.compile().as_text())
    shares = byte_shares(module, count_costs(module))
    assert shares["abs_topk"] == shares["projection"] == shares["bigram"] == 0 < shares["attention"]


def test_collectives_of_a_product_split_over_eight_devices():
    mesh = jax.make_mesh((8,), ("a",), axis_types=(AxisType.Auto,))

    def at(*spec):
        return NamedSharding(mesh, PartitionSpec(*spec))

    def product(x, w):
        return jnp.tanh(x) @ lax.with_sharding_constraint(w, at())

    x, w = jax.ShapeDtypeStruct((64, K), np.float32), jax.ShapeDtypeStruct((K, 40), np.float32)
    lowered = jax.jit(product, in_shardings=(at("a"), at("a")), out_shardings=at("a")).lower(x, w)
    module = parse(lowered.compile().as_text())
    costs = count_costs(module)
    (gather,) = collectives(module, costs, [(K, 40), (K // 8, 40)], 8)
    assert (gather.op, gather.shape, gather.of) == ("all-gather", (K, 40), "weights")
    assert gather.bytes == 4 * K * 40 and gather.wire_bytes == gather.bytes * 7 / 8
    assert costs.flops == 2 * 64 * K * 40 / 8  # of one device

    summed = jax.jit(lambda x, w: x @ w, in_shardings=(at(None, "a"), at("a")), out_shardings=at())
    module = parse(summed.lower(x, w).compile().as_text())
    (reduce,) = collectives(module, count_costs(module), [(K, 40)], 8)
    assert (reduce.op, reduce.shape, reduce.of) == ("all-reduce", (64, 40), "activations")
    assert reduce.bytes == 4 * 64 * 40 and reduce.wire_bytes == reduce.bytes * 2 * 7 / 8


def test_a_collective_in_a_loop_counts_each_turn():
    mesh = jax.make_mesh((8,), ("a",), axis_types=(AxisType.Auto,))

    def body(_, x):
        rows = PartitionSpec("a")
        mean = jax.shard_map(
            lambda x: lax.psum(x, "a") / 8, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False
        )
        return mean(x)

    lowered = jax.jit(lambda x: lax.fori_loop(0, 5, body, x)).lower(jnp.ones((8, 16)))
    module = parse(lowered.compile().as_text())
    (reduce,) = collectives(module, count_costs(module), (), 8)
    assert reduce.bytes == 5 * 4 * 16


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["data", "fsdp", "model"])
def test_gradients_weights_and_counts_of_a_step_are_told_apart(mesh):
    config = replace(CONFIG, "model", vocab_size=304, activation_locations=("mlp_neuron",))
    config = dataclasses.replace(config, mesh=dataclasses.replace(config.mesh, **({"data": 1} | {mesh: 2})))
    program = pretraining(config)
    layout = make_layout(program, config, jax.devices()[:2])
    lowered = jit_functions(program, layout).step.lower(layout.shapes, batch_shape(config, layout), {})
    module = parse(lowered.compile().as_text())
    found = collectives(module, count_costs(module), in_parts(layout.shapes.params), 2)
    expected = {"data": {"gradients"}, "fsdp": {"gradients", "weights"}, "model": {"activations"}}
    assert {each.of for each in found} >= {"counts", *expected[mesh]}
    if mesh == "data":  # every parameter's gradient, transposed or not, and nothing else
        gradients = {tuple(sorted(each.shape)) for each in found if each.of == "gradients"}
        assert gradients == {tuple(sorted(leaf.shape)) for leaf in jax.tree.leaves(layout.shapes.params)}
        assert {each.of for each in found} == {"gradients", "counts"}

"""A small program in the TPU compiler's own words, every figure counted by hand."""

import pytest

from circuits_jax.training.compiling.collectives import collectives, what_of
from circuits_jax.training.compiling.costs import count_costs
from circuits_jax.training.compiling.hlo import ArrayShape, parse, shapes
from circuits_jax.training.compiling.loops import rare_branch, turns
from circuits_jax.training.compiling.shares import byte_shares, part_of
from tests.experiments.command import ROOT

TEXT = (ROOT / "tests/testdata/hlo/loop.txt").read_text("utf-8")
LAYER, ROWS, OUT, GATHERED = 2 * 64 * 32, 4 * 16 * 64, 4 * 16 * 32, 4 * 64 * 32  # bytes


@pytest.fixture(scope="module")
def module():
    return parse(TEXT)


def of(module, name):
    found = [
        (each, each.instructions[name]) for each in module.computations.values() if name in each.instructions
    ]
    ((computation, instruction),) = found
    return computation, instruction


def test_instructions_are_read_as_they_are_printed(module):
    assert module.entry == "main" and module.computations["main"].root == "chosen"
    _, loop = of(module, "loop")
    assert loop.opcode == "while" and loop.operands == ("initial",) and loop.op_name == "jit(step)/while"
    assert loop.results[1] == ArrayShape("bf16", (8, 64, 32)) and len(loop.results) == 5
    assert loop.called == {"condition": ("condition",), "body": ("body",)}
    _, copy = of(module, "near")
    assert copy.results == (ArrayShape("f32", (16, 32), space=1),)
    _, state = of(module, "state")
    assert state.arguments == "0"
    _, product = of(module, "product")
    assert product.operands == ("param_1", "layer")


@pytest.mark.parametrize(
    "text, size",
    [
        ("f32[2,3]", 24),
        ("bf16[5]{0:T(256)}", 10),
        ("pred[7]", 7),
        ("s4[3]", 2),
        ("f8e4m3fn[4]", 4),
        ("u64[]", 8),
    ],
)
def test_bytes_of_an_array(text, size):
    (shape,) = shapes(text)
    assert shape.bytes == size


def test_what_has_no_size_has_no_bytes():
    assert [shape.bytes for shape in shapes("(token[], f32[2]{0})")] == [0, 8]


def test_text_of_something_else_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        parse("nothing of the kind")


def test_a_loop_turns_as_often_as_its_counter_says(module):
    assert turns(module, *of(module, "loop")) == 8


@pytest.mark.parametrize(
    "old, new, count",
    [
        ("constant(8)", "constant(11)", 11),
        ("direction=LT", "direction=LE", 9),
        ("direction=LT", "direction=NE", 8),
        ("%one = s32[]{:T(128)} constant(1)", "%one = s32[]{:T(128)} constant(3)", 3),
        ("compare(%i.1, %bound.1), direction=LT", "compare(%bound.1, %i.1), direction=GT", 8),
        ("body=%body,", 'body=%body, backend_config={"known_trip_count":{"n":"5"}},', 5),
        ("direction=LT", "direction=GT", 0),
    ],
)
def test_counters_of_other_forms(old, new, count):
    assert old in TEXT
    changed = parse(TEXT.replace(old, new))
    assert turns(changed, *of(changed, "loop")) == count


def test_where_no_counter_tells_a_scope_does():
    text = TEXT.replace("constant(8)", 'custom-call(%start), custom_call_target="Dice"')
    unknown = parse(text)
    assert turns(unknown, *of(unknown, "loop")) is None
    assert count_costs(unknown).uncounted == ("jit(step)/while",)
    told = parse(text.replace("jit(step)/while", "jit(step)/about_12_turns/while"))
    assert turns(told, *of(told, "loop")) == 12
    nameless = text.replace(', metadata={op_name="jit(step)/while"}', "")
    nameless = parse(nameless.replace("jit(step)/while", "jit(step)/transpose(about_7_turns)/while"))
    assert turns(nameless, *of(nameless, "loop")) == 7


def test_a_rare_branch_is_known_by_its_scope(module):
    _, conditional = of(module, "chosen")
    assert rare_branch(module, conditional) == 1
    other = parse(TEXT.replace("rarely_true", "rarely_false"))
    assert rare_branch(other, of(other, "chosen")[1]) == 0
    plain = parse(TEXT.replace("/rarely_true", ""))
    assert rare_branch(plain, of(plain, "chosen")[1]) is None


def test_costs_by_hand(module):
    costs = count_costs(module)
    assert costs.flops == 8 * 2 * 16 * 64 * 32
    body = LAYER + ROWS + 4 + OUT  # the product reads one layer of eight, its rows and the counter
    body += 2 * OUT  # the all-reduce
    body += 8 + 4 + 4 + 1  # the counter's next value; the condition
    blank, branch = 4 + OUT, 3 * OUT
    assert costs.bytes == 8 * body + blank + 2 * OUT + (OUT + GATHERED) + branch
    assert costs.main_bytes == costs.bytes - 2 * OUT  # the copy's result lies on the chip, and is gathered
    assert costs.uncounted == ()


def test_without_its_mark_the_branch_that_moves_most_counts():
    marked, plain = (count_costs(parse(text)) for text in (TEXT, TEXT.replace("/rarely_true", "")))
    assert plain.bytes - marked.bytes == 6 * OUT  # nine arrays of the exact branch, three of the usual one


def test_shares_are_of_all_bytes(module):
    costs = count_costs(module)
    shares = byte_shares(module, costs)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["abs_topk"] == pytest.approx(3 * OUT / costs.bytes)
    assert shares["attention"] == pytest.approx((OUT + GATHERED) / costs.bytes)
    assert shares["bigram"] == pytest.approx(2 * OUT / costs.bytes)
    assert shares["matmul"] == pytest.approx(8 * (LAYER + ROWS + 4 + OUT) / costs.bytes)
    assert shares["projection"] == shares["optimizer"] == 0


@pytest.mark.parametrize(
    "path, part",
    [
        ("jit(f)/abs_topk/add", "abs_topk"),
        ("jit(f)/transpose(jvp(abs_topk))/mul", "abs_topk"),
        ("jit(f)/optimizer/projection/cond", "projection"),
        ("jit(f)/h_0/attn/c_attn/dot_general", None),
        ("jit(f)/attention", "attention"),
        ("jit(f)/my_projection/add", None),
    ],
)
def test_the_innermost_part_counts(path, part):
    assert part_of(path) == part


def test_collectives_by_hand(module):
    gather, reduce = sorted(
        collectives(module, count_costs(module), [(64, 32)], devices=4), key=lambda each: each.op
    )
    assert (gather.op, gather.shape, gather.of) == ("all-gather", (64, 32), "weights")
    assert (
        gather.bytes == GATHERED and gather.wire_bytes == GATHERED * 3 / 4
    )  # of four, each lacks three parts
    assert gather.source == "jit(step)/transpose(jvp(attention))/all_gather"
    assert (reduce.op, reduce.shape, reduce.of) == ("all-reduce", (16, 32), "activations")
    assert reduce.bytes == 8 * OUT and reduce.wire_bytes == 8 * OUT  # of two, half there and half back


def test_what_is_exchanged_is_told_by_shape_and_place():
    text = TEXT.replace("while/body/dot_general", "while/body/transpose(jvp(c_fc))/dot_general")
    module = parse(text)
    found = {each.op: each.of for each in collectives(module, count_costs(module), [(32, 16)], devices=4)}
    assert found == {"all-gather": "activations", "all-reduce": "gradients"}
    counted = parse(TEXT.replace("while/body/dot_general", "abs_topk/while/body/reduce_sum"))
    found = {each.op: each.of for each in collectives(counted, count_costs(counted), [(32, 16)], devices=4)}
    assert found["all-reduce"] == "counts"


def test_what_the_projection_gathers_is_counts_unless_it_is_a_weight():
    path = "jit(step)/optimizer/projection/reduce"
    few, whole = ArrayShape("u32", (2, 64)), ArrayShape("f32", (64, 32))
    assert what_of("all-gather", few, path, {(32, 64)}) == "counts"
    assert what_of("all-gather", whole, path, {(32, 64)}) == "weights"
    assert what_of("all-gather", few, "jit(step)/attention/reduce", {(32, 64)}) == "activations"


def test_a_collective_that_runs_beside_other_work_counts_once():
    module = parse((ROOT / "tests/testdata/hlo/beside.txt").read_text("utf-8"))
    (gather,) = collectives(module, count_costs(module), [(32, 4)], devices=8)
    assert (gather.op, gather.shape, gather.of) == ("all-gather", (32, 4), "weights")
    assert gather.bytes == 4 * 32 * 4 and gather.wire_bytes == gather.bytes * 3 / 4  # four of the eight

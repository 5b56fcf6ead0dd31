"""What one run of a compiled program computes and moves, loops by their turns.

Bytes are what instructions read and write, their operands and results; what is fused stays inside.  Some
arrays lie in a faster memory on the chip itself, so that those of its main memory are counted apart.
Operations are those of matrix products, two for each multiply-and-add, as peaks count them.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator

import numpy as np

from circuits_jax.training.compiling.hlo import ArrayShape, Computation, HloModule, Instruction
from circuits_jax.training.compiling.loops import branches, rare_branch, turns

Size = Callable[[ArrayShape], int]
_DECLARED = re.compile(r'"(flops|bytes_accessed)":\s*"?(\d+)')
# Of these nothing is moved: they name what is there, or end what another one began.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id", "optimization-barrier", "domain", "add-dependency", "while", "conditional", "call",
    "async-start", "async-update", "async-done", "copy-done", "slice-done", "all-gather-done",
    "all-reduce-done", "collective-permute-done", "send-done", "recv-done", "rng-get-and-update-state",
}  # fmt: skip
# Calls by which the TPU compiler names memory: no kernel runs.
_NAMING = re.compile(
    r'custom_call_target="(AllocateBuffer|ConcatBitcast|AssumeGatherIndicesInBound|GatherScatterIndicesBitpacked)"'
)
# These read as much of their first operand as they give.
_PICKING = ("dynamic-slice", "slice", "gather")
_SAME_PLACE = ("bitcast", "reshape", "copy", "convert")


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one instruction costs in one run of the program.

    Attributes:
      instruction: It.
      computation: That it stands in.
      times: How often it runs.
      flops: Operations of matrix products, of all times.
      bytes: Read and written, of all times.
      main_bytes: Of these, those of main memory.
    """

    instruction: Instruction
    computation: Computation
    times: int
    flops: float
    bytes: float
    main_bytes: float


@dataclasses.dataclass(frozen=True)
class Costs:
    """What a program costs.

    Attributes:
      each: One of each instruction that costs anything, or is a collective.
      uncounted: Names of loops whose turns nobody tells; their bodies are counted once.
    """

    each: tuple[Cost, ...]
    uncounted: tuple[str, ...]

    @property
    def flops(self) -> float:
        """Of all instructions."""
        return sum(cost.flops for cost in self.each)

    @property
    def bytes(self) -> float:
        """Of all instructions."""
        return sum(cost.bytes for cost in self.each)

    @property
    def main_bytes(self) -> float:
        """Of all instructions."""
        return sum(cost.main_bytes for cost in self.each)


def count_costs(module: HloModule) -> Costs:
    """What one run of the program costs.

    A loop's body counts as often as it turns; of a conditional the branch that is not rare, or else the one
    that moves most, counts alone.
    """
    uncounted: list[str] = []
    each = tuple(_walk(module, module.computations[module.entry], 1, uncounted))
    return Costs(each, tuple(uncounted))


def _walk(module: HloModule, computation: Computation, times: int, uncounted: list[str]) -> Iterator[Cost]:
    for each in computation.instructions.values():
        if each.opcode == "while":
            count = turns(module, computation, each)
            if count is None:
                uncounted.append(each.op_name or each.name)
                count = 1
            yield from _walk(module, module.called(each, "body"), times * count, uncounted)
            yield from _walk(module, module.called(each, "condition"), times * count, uncounted)
        elif each.opcode == "conditional":
            yield from _usual_branch(module, each, times, uncounted)
        elif each.opcode in ("call", "async-start"):
            key = "to_apply" if each.opcode == "call" and "to_apply" in each.called else "calls"
            yield from _walk(module, module.called(each, key), times, uncounted)
        else:
            flops = flops_of(module, computation, each)
            moved, main = (_moved(module, computation, each, size) for size in (_all_bytes, _main_bytes))
            if flops or moved:
                yield Cost(each, computation, times, times * flops, times * moved, times * main)


def _usual_branch(
    module: HloModule, conditional: Instruction, times: int, uncounted: list[str]
) -> Iterator[Cost]:
    rare, best, most = rare_branch(module, conditional), list[Cost](), -1.0
    for place, branch in enumerate(branches(module, conditional)):
        if place == rare:
            continue
        told: list[str] = []
        found = list(_walk(module, branch, times, told))
        if (moved := sum(cost.bytes for cost in found)) > most:
            best, most, names = found, moved, told
    uncounted += names
    yield from best


def flops_of(module: HloModule, computation: Computation, each: Instruction) -> float:
    """Operations of one instruction's products, of those fused into it too."""
    if each.opcode == "dot":
        return dot_flops(each, computation.operands(each)[0].results[0])
    if each.opcode == "convolution":
        left, right = (operand.results[0] for operand in computation.operands(each))
        return convolution_flops(each, left, right)
    if each.opcode == "fusion":
        inner = module.called(each)
        return sum(flops_of(module, inner, other) for other in inner.instructions.values())
    if each.opcode == "custom-call":
        return _declared(each).get("flops", 0.0)
    return 0.0


def dot_flops(dot: Instruction, left: ArrayShape) -> float:
    """Operations of a `dot` whose first operand is of the shape `left`."""
    summed = math.prod(left.dims[axis] for axis in dot.numbers("lhs_contracting_dims"))
    return 2.0 * dot.results[0].size * summed


def convolution_flops(convolution: Instruction, left: ArrayShape, right: ArrayShape) -> float:
    """Operations of a `convolution`, which is how TPUs compute products; padding costs nothing.

    Args:
      convolution: The instruction.
      left, right: Shapes of its operands.
    """
    labels = re.search(r"\bdim_labels=([\w?]+)_([\w?]+)->([\w?]+)", convolution.attributes)
    if labels is None:
        return 0.0
    images, kernels, results = labels[1], labels[2], labels[3]
    pairs = math.prod(
        _touching(
            left.dims[images.index(axis)],
            right.dims[kernels.index(axis)],
            convolution.results[0].dims[results.index(axis)],
            _window(convolution, int(axis)),
        )
        for axis in results
        if axis.isdigit()
    )
    outer = math.prod(convolution.results[0].dims[results.index(axis)] for axis in "bf")
    grouped = re.search(r"\bbatch_group_count=(\d+)", convolution.attributes)
    return 2.0 * outer * pairs * right.dims[kernels.index("i")] / (int(grouped[1]) if grouped else 1)


class _Window(dict[str, int]):
    """Of one axis: size, stride, low padding, and how far the image's and the kernel's entries lie apart."""

    def __missing__(self, key: str) -> int:
        return 0 if key == "pad" else 1


def _window(convolution: Instruction, axis: int) -> _Window:
    found = re.search(r"\bwindow=\{([^}]*)\}", convolution.attributes)
    window = _Window()
    for part in found[1].split() if found else ():
        key, _, values = part.partition("=")
        window[key] = int(values.split("x")[axis].partition("_")[0])
    return window


def _touching(image: int, kernel: int, result: int, window: _Window) -> int:
    """Pairs of a result's and a kernel's entry along one axis that meet an entry of the image."""
    starts = np.arange(result)[:, None] * window["stride"] - window["pad"]
    total, apart = 0, window["lhs_dilate"]
    for first in range(0, kernel, 1024):  # in blocks: both may be thousands
        at = starts + np.arange(first, min(first + 1024, kernel)) * window["rhs_dilate"]
        total += int(np.sum((at >= 0) & (at <= (image - 1) * apart) & (at % apart == 0)))
    return total


def _declared(call: Instruction) -> dict[str, float]:
    """What a kernel says that it costs."""
    return {key: float(value) for key, value in _DECLARED.findall(call.attributes)}


def _all_bytes(shape: ArrayShape) -> int:
    return shape.bytes


def _main_bytes(shape: ArrayShape) -> int:
    """Bytes of an array that lies in main memory; 0 for one on the chip itself."""
    return 0 if shape.space else shape.bytes


def _moved(module: HloModule, computation: Computation, each: Instruction, size: Size) -> float:
    """Bytes that one instruction reads and writes.

    Args:
      module, computation: That it stands in.
      each: The instruction.
      size: Bytes of an array as they are to be counted.
    """
    if each.opcode in _FREE:
        return 0.0
    operands = computation.operands(each)
    if each.opcode == "fusion":
        return _fusion_moved(module, each, operands, size)
    if each.opcode == "custom-call" and "bytes_accessed" in (declared := _declared(each)):
        return declared["bytes_accessed"]
    if names_memory(each):
        return 0.0
    results = each.results
    if each.opcode == "copy-start":  # its result names the source, too
        return size(results[0]) + size(operands[0].results[0])
    if each.opcode == "slice-start":
        return size(results[1]) + (results[1].bytes if size(results[0]) else 0)
    if each.opcode.endswith("-start"):
        results = finished(each)
    written = sum(map(size, results))
    if each.opcode in _PICKING:
        picked = sum(shape.bytes for shape in results) if size(operands[0].results[0]) else 0
        return written + picked + sum(size(shape) for other in operands[1:] for shape in other.results)
    if each.opcode in ("dynamic-update-slice", "scatter"):
        new = operands[1:] if each.opcode == "dynamic-update-slice" else operands[len(each.results) :]
        return 2 * sum(size(shape) for other in new for shape in other.results)
    return written + sum(size(shape) for other in operands for shape in other.results)


def names_memory(each: Instruction) -> bool:
    """Whether an instruction is a call that gives memory another name, or asks for some."""
    return each.opcode == "custom-call" and _NAMING.search(each.attributes) is not None


def finished(start: Instruction) -> tuple[ArrayShape, ...]:
    """The arrays that a collective which only begins here ends with; they stand behind its operands."""
    count = len(start.operands)
    if start.opcode == "all-reduce-start" or len(start.results) <= count:
        return start.results
    return start.results[count : 2 * count]


def _fusion_moved(module: HloModule, fusion: Instruction, operands: list[Instruction], size: Size) -> float:
    """Bytes at a fusion's edge: of an operand that it picks slices of, those slices alone."""
    inner = module.called(fusion)
    read = sum(
        _read(module, inner, parameter)
        for parameter, operand in zip(inner.parameters, operands, strict=True)
        if any(map(size, operand.results))
    )
    root = inner.instructions[inner.root]
    roots = inner.operands(root) if root.opcode == "tuple" else [root]
    if len(roots) != len(fusion.results):
        return read + sum(map(size, fusion.results))
    return read + sum(
        _written(inner, each, result)
        for each, result in zip(roots, fusion.results, strict=True)
        if size(result)
    )


def _read(module: HloModule, inner: Computation, value: Instruction) -> float:
    """Bytes that a fused computation reads of one of its parameters, `value`, or what stands for it."""
    whole = float(sum(shape.bytes for shape in value.results))
    read = 0.0
    for user in inner.users[value.name]:
        if user.opcode == "bitcast":
            read += _read(module, inner, user)
        elif user.opcode in _PICKING and user.operands[0] == value.name:
            read += sum(shape.bytes for shape in user.results)
        elif user.opcode == "dynamic-update-slice" and user.operands[0] == value.name:
            continue  # updated in its place
        elif user.opcode == "fusion":
            called = module.called(user)
            places = [i for i, name in enumerate(user.operands) if name == value.name]
            read += sum(_read(module, called, called.parameters[place]) for place in places)
        else:
            return whole
    return min(read, whole)


def _written(inner: Computation, root: Instruction, result: ArrayShape) -> float:
    """Bytes that a fusion writes of one result: of one that is updated in its place, the update alone."""
    each = root
    while each.opcode in _SAME_PLACE:
        each = inner.instructions[each.operands[0]]
    if each.opcode == "dynamic-update-slice":
        update = inner.instructions[each.operands[1]]
        return float(min(update.results[0].bytes, result.bytes))
    return float(result.bytes)

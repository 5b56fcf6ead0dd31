"""What a compiled program sends between chips, and what that is of."""

import dataclasses
import math
import re
from collections.abc import Collection, Iterable, Iterator

from circuits_jax.model.scopes import ABS_TOPK, PROJECTION
from circuits_jax.training.compiling.costs import Cost, Costs, finished
from circuits_jax.training.compiling.hlo import ArrayShape, Computation, HloModule, Instruction
from circuits_jax.training.compiling.shares import part_of, scope_path

WEIGHTS, GRADIENTS, ACTIVATIONS, COUNTS = OF = ("weights", "gradients", "activations", "counts")
OPS = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
# How the TPU compiler names what it makes of an all-reduce of which each chip keeps its part alone.
_FUSED = {"all-reduce-scatter": "reduce-scatter"}
_GROUPS = re.compile(r"\breplica_groups=\{\{([\d,]*)\}|\breplica_groups=\[(\d+),(\d+)\]")
_AXES = re.compile(r"\breplica_groups=mesh\[([^\]]*)\] *\{([^}]*)\}")  # mesh['a'=2,'b'=4] {'b'}
# Of a collective that runs beside several fusions, each holds a copy; the first begins it.
_COPY, _BEGINNING = "chain_id=", '"AsyncCollectiveStart"'


@dataclasses.dataclass(frozen=True)
class Collective:
    """One array that chips exchange.

    Attributes:
      op: Of OPS, also where it runs beside other work.
      bytes: Of the whole array on the larger side of the exchange, a chip and run of the program, all turns.
      wire_bytes: What one chip sends of it, at least, around a ring.
      shape: Of the result.
      source: The path that it was traced under.
      of: Of OF.
    """

    op: str
    bytes: float
    wire_bytes: float
    shape: tuple[int, ...]
    source: str
    of: str


def collectives(
    module: HloModule, costs: Costs, weights: Collection[tuple[int, ...]], devices: int
) -> list[Collective]:
    """All exchanges of one run of the program, the largest first.

    Args:
      module: The program.
      costs: Of it.
      weights: Shapes of its parameters, whole and as each chip has them.
      devices: How many take part where an instruction does not say.
    """
    found: list[Collective] = []
    known = {_plain(shape) for shape in weights}
    for cost in costs.each:
        for computation, each in _exchanges(module, cost):
            path = each.op_name or scope_path(
                module, cost.instruction
            )  # what is fused may have lost its name
            found += _arrays(cost, computation, each, path, known, devices)
    return sorted(found, key=lambda each: -each.bytes)


def plain_op(instruction: Instruction) -> str | None:
    """The collective that an instruction is or begins, of OPS; None for any other."""
    name = instruction.opcode.removesuffix("-start")
    return name if name in OPS else None


def _exchanges(module: HloModule, cost: Cost) -> Iterator[tuple[Computation, Instruction]]:
    """The collectives that an instruction is, or holds as a fusion, each once where it begins."""
    if plain_op(cost.instruction) is not None:
        yield cost.computation, cost.instruction
    if cost.instruction.opcode == "fusion":
        inner = module.called(cost.instruction)
        begins = any(_BEGINNING in each.attributes for each in inner.instructions.values())
        for each in inner.instructions.values():
            if _COPY in each.attributes and not begins:
                continue
            yield from _exchanges(module, dataclasses.replace(cost, instruction=each, computation=inner))


def _arrays(
    cost: Cost,
    computation: Computation,
    each: Instruction,
    path: str,
    weights: set[tuple[int, ...]],
    devices: int,
) -> Iterable[Collective]:
    """One of each array that an instruction exchanges."""
    op = plain_op(each) or ""
    for prefix, name in _FUSED.items():
        op = name if computation.name.startswith(prefix) else op
    size = group_size(each, devices)
    results = finished(each)
    sent = [shape for operand in computation.operands(each) for shape in operand.results]
    for place, shape in enumerate(results):
        before = sent[place] if len(sent) == len(results) else shape
        count = cost.times * max(shape.bytes, before.bytes)
        yield Collective(
            op=op,
            bytes=count,
            wire_bytes=count * _sent_share(op, size),
            shape=shape.dims,
            source=path or each.name,
            of=what_of(op, shape, path, weights),
        )


def _sent_share(op: str, size: int) -> float:
    """Of the whole array, what one of `size` chips sends around a ring."""
    if size < 2:
        return 0.0
    if op in ("collective-permute", "collective-broadcast"):
        return 1.0
    return (2.0 if op == "all-reduce" else 1.0) * (size - 1) / size


def group_size(each: Instruction, devices: int) -> int:
    """How many chips exchange with each other."""
    axes = _AXES.search(each.attributes)
    if axes is not None:
        sizes = dict(re.findall(r"('[^']*')=(\d+)", axes[1]))
        return math.prod(int(sizes[name]) for name in re.findall(r"'[^']*'", axes[2]))
    found = _GROUPS.search(each.attributes)
    if found is None:
        return devices
    return int(found[3]) if found[3] else max(1, len(found[1].split(",")) if found[1] else devices)


def what_of(op: str, shape: ArrayShape, path: str, weights: set[tuple[int, ...]]) -> str:
    """What is exchanged, of OF: told by its shape, and by where in the step it is.

    Args:
      op: Of OPS.
      shape: Of the result.
      path: That it was traced under.
      weights: Shapes of parameters, without axes of one entry.
    """
    part = part_of(path)
    if shape.size == 1 or (op == "all-reduce" and part in (ABS_TOPK, PROJECTION)):
        return COUNTS
    if _plain(shape.dims) not in weights:  # of the projection: the largest entries of each unit
        return COUNTS if part == PROJECTION else ACTIVATIONS
    reduced = op in ("all-reduce", "reduce-scatter")
    if not reduced:
        return WEIGHTS
    return GRADIENTS if "transpose(" in path or part == "optimizer" else ACTIVATIONS


def _plain(dims: tuple[int, ...]) -> tuple[int, ...]:
    """A shape in ascending order and without axes of one entry: transposed and reshaped it is the same."""
    return tuple(sorted(size for size in dims if size > 1))

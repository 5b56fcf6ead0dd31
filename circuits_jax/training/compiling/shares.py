"""Whose traffic it is: parts of the step by the scopes that instructions were traced under."""

import re

from circuits_jax.model.scopes import PARTS
from circuits_jax.training.compiling.costs import Cost, Costs
from circuits_jax.training.compiling.hlo import HloModule, Instruction

MATMUL, REST = "matmul", "rest"
SHARES = ("abs_topk", "projection", "optimizer", "attention", MATMUL, "bigram", REST)
_PART = re.compile(rf"(?:^|[/(])({'|'.join(PARTS)})(?=[/)]|$)")


def byte_shares(module: HloModule, costs: Costs) -> dict[str, float]:
    """Fractions of all bytes moved, by SHARES; they sum to 1."""
    moved = dict.fromkeys(SHARES, 0.0)
    for cost in costs.each:
        moved[share_of(module, cost)] += cost.bytes
    total = sum(moved.values())
    return {name: count / total for name, count in moved.items()} if total else moved | {REST: 1.0}


def share_of(module: HloModule, cost: Cost) -> str:
    """The share that an instruction's bytes belong to, of SHARES: its innermost part, or else MATMUL."""
    name = part_of(scope_path(module, cost.instruction))
    return name or (MATMUL if cost.flops else REST)


def part_of(path: str) -> str | None:
    """The innermost of PARTS in the path of an operation; None where there is none."""
    found = _PART.findall(path)
    return found[-1] if found else None


def scope_path(module: HloModule, instruction: Instruction) -> str:
    """The path that an instruction was traced under; of a fusion without one its root's, or any in it."""
    if instruction.op_name or instruction.opcode != "fusion":
        return instruction.op_name
    inner = module.called(instruction)
    root = scope_path(module, inner.instructions[inner.root])
    return root or next((each.op_name for each in inner.instructions.values() if each.op_name), "")

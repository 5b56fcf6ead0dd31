"""Whose traffic it is: parts of the step by the scopes that instructions were traced under."""

import re

from circuits_jax.model.scopes import PARTS
from circuits_jax.training.compiling.costs import Cost, Costs, flops_of, names_memory
from circuits_jax.training.compiling.hlo import Computation, HloModule, Instruction

MATMUL, REST = "matmul", "rest"
SHARES = ("abs_topk", "projection", "optimizer", "attention", MATMUL, "bigram", REST)
_MOVES = (
    "copy", "copy-start", "copy-done", "bitcast", "reshape", "slice", "slice-start", "slice-done",
)  # fmt: skip
_PART = re.compile(rf"(?:^|[/(])({'|'.join(PARTS)})(?=[/)]|$)")


def byte_shares(module: HloModule, costs: Costs) -> dict[str, float]:
    """Fractions of all bytes moved, by SHARES; they sum to 1."""
    moved = dict.fromkeys(SHARES, 0.0)
    for cost in costs.each:
        moved[share_of(module, cost)] += cost.bytes
    total = sum(moved.values())
    return {name: count / total for name, count in moved.items()} if total else moved | {REST: 1.0}


def share_of(module: HloModule, cost: Cost) -> str:
    """The share that an instruction's bytes belong to, of SHARES.

    It is that of its innermost part; else of matrix products, if it is one.  A copy is of what takes it, or
    else of what made it: the compiler brings arrays to the chip before they are needed.
    """
    return _share(module, cost.computation, cost.instruction) or REST


def _share(module: HloModule, computation: Computation, each: Instruction) -> str | None:
    own = part_of(scope_path(module, each)) or (MATMUL if flops_of(module, computation, each) else None)
    if own is not None or not _moves(each):
        return own
    takers = (_taker_share(module, computation, user) for user in computation.users[each.name])
    found = next((share for share in takers if share is not None), None)
    if found is not None:
        return found
    makers = computation.operands(each)
    return next((s for s in (_maker_share(module, computation, maker) for maker in makers) if s), None)


def _moves(each: Instruction) -> bool:
    return each.opcode in _MOVES or names_memory(each)


def _taker_share(module: HloModule, computation: Computation, user: Instruction) -> str | None:
    """The share of what takes a copy, also by way of further ones."""
    if _moves(user):
        takers = (_taker_share(module, computation, other) for other in computation.users[user.name])
        return next((share for share in takers if share is not None), None)
    return _share(module, computation, user)


def _maker_share(module: HloModule, computation: Computation, maker: Instruction) -> str | None:
    """The share of what made what is copied, also by way of further copies."""
    if _moves(maker) or maker.opcode == "get-tuple-element":
        before = computation.operands(maker)
        return _maker_share(module, computation, before[0]) if before else None
    return _share(module, computation, maker)


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

"""How often the parts of a compiled program run: turns of loops, and branches that are hardly ever taken.

XLA's own cost analysis counts a loop's body once and every branch of a conditional.
"""

import operator
import os.path
import re
from collections.abc import Callable
from typing import NamedTuple

from circuits_jax.model.scopes import RARELY, TURNS
from circuits_jax.training.compiling.hlo import Computation, HloModule, Instruction

_KNOWN = re.compile(r'"known_trip_count":\s*\{"n":\s*"?(\d+)')
_HINTED = re.compile(re.escape(TURNS).replace(r"\{\}", r"(\d+)"))
_RARE = {branch: RARELY.format(str(branch).lower()) for branch in (False, True)}
_PASSING = ("copy", "bitcast", "convert", "reshape", "broadcast", "copy-done", "optimization-barrier")
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "LT": operator.lt,
    "LE": operator.le,
    "GT": operator.gt,
    "GE": operator.ge,
    "NE": operator.ne,
    "EQ": operator.eq,
}
_MIRRORED = {"LT": "GT", "GT": "LT", "LE": "GE", "GE": "LE", "NE": "NE", "EQ": "EQ"}
_DIRECTION = re.compile(r"\bdirection=(\w\w)")


class Carried(NamedTuple):
    """A loop's variable: entry `place` of the tuple that goes round, and `offset` more."""

    place: int
    offset: int = 0


Scalar = int | Carried | None


def turns(module: HloModule, computation: Computation, loop: Instruction) -> int | None:
    """Turns of a `while` instruction of `computation`; None if neither the compiler, nor its counter, nor a
    scope (`model.scopes.about_turns`) tells them."""
    if found := _KNOWN.search(loop.attributes):
        return int(found[1])
    counted = _counted(module, computation, loop)
    return _hinted(module, loop) if counted is None else counted


def rare_branch(module: HloModule, conditional: Instruction) -> int | None:
    """The branch of a `conditional` that a scope (`model.scopes.rarely`) calls rare, as its place among
    `branches`; None if none is."""
    path = conditional.op_name
    if not path:  # what the branches hold was traced under its scopes, too
        path = os.path.commonprefix([_common_path(each) for each in branches(module, conditional)])
    around = _above(path, "cond").rpartition("/")[2]
    rare = next((branch for branch, name in _RARE.items() if name in around), None)
    if rare is None:
        return None
    # By a bool the true branch comes first, by a number the false one.
    return int(not rare) if "true_computation" in conditional.called else int(rare)


def branches(module: HloModule, conditional: Instruction) -> list[Computation]:
    """The branches of a `conditional`, in the order in which they are printed."""
    called = conditional.called
    names = called.get("branch_computations") or (
        *called["true_computation"],
        *called["false_computation"],
    )
    return [module.computations[name] for name in names]


def _above(path: str, primitive: str) -> str:
    """`path` up to its last component `primitive`."""
    return path.rpartition(f"/{primitive}")[0] or path


def _hinted(module: HloModule, loop: Instruction) -> int | None:
    """What a scope right around the loop says; the loop itself may have lost its name."""
    path = _above(loop.op_name, "while")
    if not loop.op_name:
        path = _above(_common_path(module.called(loop, "body")), "while")
    found = _HINTED.search(path.rpartition("/")[2])
    return int(found[1]) if found else None


def _common_path(computation: Computation) -> str:
    """The scopes that all of a computation was traced under."""
    paths = [each.op_name.split("/") for each in computation.instructions.values() if each.op_name]
    return "/".join(os.path.commonprefix(paths)) if paths else ""


def _counted(module: HloModule, computation: Computation, loop: Instruction) -> int | None:
    """Turns of a loop whose condition compares a counter with a bound, both known."""
    condition, body = module.called(loop, "condition"), module.called(loop, "body")
    compare = _comparison(module, condition)
    if compare is None:
        return None
    left, right, direction = compare
    if _step(module, body, left) in (None, 0):
        left, right, direction = right, left, _MIRRORED[direction]
    step, start = _step(module, body, left), _initial(module, computation, loop, left)
    bound = right
    if isinstance(right, Carried):
        bound = _initial(module, computation, loop, right) if _step(module, body, right) == 0 else None
    if step is None or not isinstance(start, int) or not isinstance(bound, int):
        return None
    return _turns_of(start, bound, step, direction)


def _step(module: HloModule, body: Computation, variable: Scalar) -> int | None:
    """By how much a turn changes a loop's variable; None for what is none, or changes otherwise."""
    if not isinstance(variable, Carried) or variable.offset:
        return None
    after = _scalar(module, body, _entry_of(body, body.root, variable.place), {})
    same = isinstance(after, Carried) and after.place == variable.place
    return after.offset if isinstance(after, Carried) and same else None


def _turns_of(start: int, bound: int, step: int, direction: str) -> int | None:
    """Turns of a counter that goes from `start` by `step` as long as it stands so to `bound`."""
    if not _COMPARE[direction](start, bound):
        return 0
    if direction in ("LE", "GE"):
        bound += 1 if direction == "LE" else -1
    count, left = divmod(bound - start, step) if step else (0, 0)
    if count < 1 or direction == "EQ" or (direction == "NE" and left):
        return None  # it would never end, or it is no counter
    return count + (1 if left else 0)


def _initial(module: HloModule, computation: Computation, loop: Instruction, variable: Scalar) -> Scalar:
    """What a loop's variable is before the first turn."""
    if not isinstance(variable, Carried):
        return None
    return _scalar(module, computation, _entry_of(computation, loop.operands[0], variable.place), {})


def _entry_of(computation: Computation, name: str, index: int) -> str | None:
    """The instruction that is entry `index` of the tuple `name`."""
    tuple_ = computation.instructions[name]
    while tuple_.opcode in ("copy", "optimization-barrier"):
        tuple_ = computation.instructions[tuple_.operands[0]]
    return tuple_.operands[index] if tuple_.opcode == "tuple" else None


def _comparison(module: HloModule, condition: Computation) -> tuple[Scalar, Scalar, str] | None:
    """(left, right, direction) of the comparison that a condition ends in, within a fusion or not."""
    root, inner = condition.instructions[condition.root], condition
    given: dict[int, Scalar] = {}
    if root.opcode in ("fusion", "call"):
        inner = module.called(root, "calls" if root.opcode == "fusion" else "to_apply")
        given = {i: _scalar(module, condition, name, {}) for i, name in enumerate(root.operands)}
        root = inner.instructions[inner.root]
    if root.opcode != "compare":
        return None
    left, right = (_scalar(module, inner, name, given) for name in root.operands)
    found = _DIRECTION.search(root.attributes)
    return (left, right, found[1]) if found else None


def _scalar(
    module: HloModule, computation: Computation, name: str | None, given: dict[int, Scalar]
) -> Scalar:
    """What a whole number is: a constant, or a variable of the loop that `computation` is a part of.

    Args:
      module: The program.
      computation: A loop's body or condition, what surrounds a loop, or what a fusion calls.
      name: Of an instruction in it.
      given: What the fusion's parameters are; {} in a computation of a loop.
    """
    if name is None:
        return None
    each = computation.instructions[name]
    if each.opcode == "constant":
        return int(each.arguments) if re.fullmatch(r"-?\d+", each.arguments) else None
    if each.opcode == "parameter":
        return given.get(int(each.arguments))
    if each.opcode in _PASSING:
        return _scalar(module, computation, each.operands[0], given)
    if each.opcode == "get-tuple-element":
        return _element(module, computation, each, given)
    if each.opcode in ("add", "subtract"):
        left, right = (_scalar(module, computation, other, given) for other in each.operands)
        return _sum(left, right, 1 if each.opcode == "add" else -1)
    if each.opcode == "fusion":
        inner = module.called(each)
        outer = {i: _scalar(module, computation, other, given) for i, other in enumerate(each.operands)}
        return _scalar(module, inner, inner.root, outer)
    return None


def _element(
    module: HloModule, computation: Computation, element: Instruction, given: dict[int, Scalar]
) -> Scalar:
    """What a `get-tuple-element` gives."""
    found = re.search(r"\bindex=(\d+)", element.attributes)
    source = computation.instructions[element.operands[0]]
    if found is None:
        return None
    index = int(found[1])
    if source.opcode == "parameter":
        return Carried(index)
    if source.opcode == "tuple":
        return _scalar(module, computation, source.operands[index], given)
    if source.opcode == "fusion":
        inner = module.called(source)
        outer = {i: _scalar(module, computation, name, given) for i, name in enumerate(source.operands)}
        return _scalar(module, inner, _entry_of(inner, inner.root, index), outer)
    return None


def _sum(left: Scalar, right: Scalar, sign: int) -> Scalar:
    if isinstance(left, int) and isinstance(right, int):
        return left + sign * right
    if isinstance(left, Carried) and isinstance(right, int):
        return left._replace(offset=left.offset + sign * right)
    if isinstance(left, int) and isinstance(right, Carried) and sign == 1:
        return right._replace(offset=right.offset + left)
    return None

"""The text of a compiled program, as instructions: what XLA prints of an optimized HLO module.

    %add.3 = f32[8,128]{1,0:T(8,128)} add(%a, %b), metadata={op_name="jit(f)/add"}

A module is computations, one of them the entry; a computation is instructions in order, one of them its root.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping

# Bits of an entry; what is not here, such as a token, takes no room.
_BITS = {"pred": 8, "s4": 4, "u4": 4, "s2": 2, "u2": 2, "c64": 64, "c128": 128, "bf16": 16}
_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\](?:\{([^{}]*)\})?")
_HEADER = re.compile(r"^(ENTRY\s+)?%?([\w.\-]+)\s*(?:\(.*\)\s*->.*)?\{$")
_NAME = re.compile(r"^\s*(ROOT\s+)?%?([\w.\-]+) = ")
_OPERAND = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"\b(calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_CALLED_LISTS = re.compile(r"\b(branch_computations|called_computations)=\{([^}]*)\}")
_OP_NAME = re.compile(r'op_name="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class ArrayShape:
    """An array's type.

    Attributes:
      dtype: XLA's name, such as "f32".
      dims: Its sizes.
      space: The memory it lies in: 0 is the chip's main memory.
    """

    dtype: str
    dims: tuple[int, ...]
    space: int = 0

    @property
    def size(self) -> int:
        """Entries."""
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        """Bytes of its entries, without padding."""
        digits = re.search(r"\d+", self.dtype)
        bits = _BITS.get(self.dtype, int(digits[0]) if digits and self.dtype[0] in "fsu" else 0)
        return -(-self.size * bits // 8)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
      name: Unique in its module.
      opcode: Such as "fusion".
      results: The arrays it gives, those of a tuple one after another.
      operands: Names of what it takes.
      arguments: What stands between its brackets, as printed: a parameter's number, a constant's value.
      attributes: What stands behind them, as printed.
    """

    name: str
    opcode: str
    results: tuple[ArrayShape, ...]
    operands: tuple[str, ...]
    arguments: str
    attributes: str

    @functools.cached_property
    def called(self) -> Mapping[str, tuple[str, ...]]:
        """{attribute: names of the computations it calls}."""
        found = {key: (name,) for key, name in _CALLED.findall(self.attributes)}
        lists = _CALLED_LISTS.findall(self.attributes)
        return found | {key: tuple(_names(text)) for key, text in lists}

    @property
    def op_name(self) -> str:
        """The path of scopes and primitive that it was traced under; "" if it says none."""
        found = _OP_NAME.search(self.attributes)
        return found[1] if found else ""

    def numbers(self, key: str) -> tuple[int, ...]:
        """The whole numbers of an attribute, such as `lhs_contracting_dims={1}`; () without it."""
        found = re.search(rf"\b{key}=\{{([\d,]*)\}}", self.attributes)
        return tuple(map(int, filter(None, found[1].split(",")))) if found else ()


@dataclasses.dataclass(frozen=True)
class Computation:
    """Instructions in order, by name.

    Attributes:
      name: Unique in its module.
      instructions: {name: instruction}.
      root: The name of the one whose result is the computation's.
    """

    name: str
    instructions: Mapping[str, Instruction]
    root: str

    @functools.cached_property
    def parameters(self) -> tuple[Instruction, ...]:
        """In the order of their numbers."""
        found = [each for each in self.instructions.values() if each.opcode == "parameter"]
        return tuple(sorted(found, key=lambda each: int(each.arguments)))

    @functools.cached_property
    def users(self) -> Mapping[str, tuple[Instruction, ...]]:
        """{name: the instructions that take it}."""
        found: dict[str, list[Instruction]] = {name: [] for name in self.instructions}
        for each in self.instructions.values():
            for operand in dict.fromkeys(each.operands):
                found[operand].append(each)
        return {name: tuple(users) for name, users in found.items()}

    def operands(self, instruction: Instruction) -> list[Instruction]:
        """What an instruction of this computation takes."""
        return [self.instructions[name] for name in instruction.operands]


@dataclasses.dataclass(frozen=True)
class HloModule:
    """A compiled program.

    Attributes:
      computations: {name: computation}.
      entry: The name of the one that runs.
    """

    computations: Mapping[str, Computation]
    entry: str

    def called(self, instruction: Instruction, key: str = "calls") -> Computation:
        """The computation that an instruction calls, by the attribute that names it."""
        return self.computations[instruction.called[key][0]]


def parse(text: str) -> HloModule:
    """The module that `text` prints (`jax.stages.Compiled.as_text`).

    Raises:
      ValueError: for text without an entry computation, or a line that cannot be read.
    """
    computations: dict[str, Computation] = {}
    entry, name, root, lines = "", "", "", dict[str, Instruction]()
    for line in text.splitlines():
        if name and line.strip() == "}":
            computations[name] = Computation(name, lines, root or next(reversed(lines), ""))
            name = ""
        elif name:
            found = _NAME.match(line)
            if found:
                instruction = _instruction(found[2], line[found.end() :])
                lines[instruction.name] = instruction
                root = instruction.name if found[1] else root
        elif header := _HEADER.match(line.rstrip()):
            name, root, lines = header[2], "", {}
            entry = name if header[1] else entry
    if entry not in computations:
        raise ValueError("this is no text of an HLO module: it has no ENTRY computation")
    return HloModule(computations, entry)


def shapes(text: str) -> tuple[ArrayShape, ...]:
    """The array types that a printed type names, in order."""
    return tuple(_shape(*found) for found in _SHAPE.findall(text))


def _shape(dtype: str, dims: str, layout: str) -> ArrayShape:
    space = re.search(r"S\((\d+)\)", layout)
    sizes = tuple(int(size.lstrip("<=")) for size in dims.split(",") if size)
    return ArrayShape(dtype, sizes, int(space[1]) if space else 0)


def _instruction(name: str, rest: str) -> Instruction:
    """One of what stands behind its equals sign."""
    end = _end_of_brackets(rest, 0) if rest.startswith("(") else rest.index(" ")
    kind, rest = rest[:end], rest[end:].lstrip()
    opcode, bracket, _ = rest.partition("(")
    if not bracket:
        raise ValueError(f"the instruction {name} of the HLO text cannot be read: {rest[:80]!r}")
    end = _end_of_brackets(rest, len(opcode))
    arguments = rest[len(opcode) + 1 : end - 1]
    return Instruction(name, opcode, shapes(kind), tuple(_names(arguments)), arguments, rest[end:])


def _names(text: str) -> list[str]:
    """Names after "%", in order."""
    return _OPERAND.findall(text)


def _end_of_brackets(text: str, start: int) -> int:
    """Where the bracket that opens at `start` has closed; what is quoted does not count."""
    depth, quoted = 0, False
    for place in range(start, len(text)):
        sign = text[place]
        if sign == '"' and text[place - 1] != "\\":
            quoted = not quoted
        elif not quoted and sign == "(":
            depth += 1
        elif not quoted and sign == ")":
            depth -= 1
            if not depth:
                return place + 1
    raise ValueError(f"a bracket of the HLO text never closes: {text[:80]!r}")

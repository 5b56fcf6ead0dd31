"""The pickles inside `.pt` files, interpreted without running anything.

A pickle is a program for a small stack machine, and Python's own unpickler lets it call any function.
Here only the instructions that containers and tensors need exist; a global name is looked up in a table
of three functions and the storage types, and never imported.
"""

import math
import pickletools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from circuits_jax.storage.errors import CheckpointError

_REBUILD = "torch._utils _rebuild_tensor_v2"
_PARAMETER = "torch._utils _rebuild_parameter"
_ORDERED_DICT = "collections OrderedDict"

_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Global(NamedTuple):
    """A name that the pickle refers to: "module name"."""

    name: str


def interpret(program: bytes, storage: Callable[[Any], np.ndarray]) -> Any:
    """Runs the pickle instructions that describe containers and tensors; refuses all others.

    Args:
      program: The pickle, of protocol 2 to 5.
      storage: Gives the flat array that a persistent id names.

    Returns:
      What the pickle describes, tensors as views of their storages.

    Raises:
      CheckpointError: for any other instruction, or a program that makes no sense.
    """
    machine = _Machine(storage)
    try:
        for opcode, argument, _ in pickletools.genops(program):
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.step(opcode.name, argument)
    except CheckpointError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"the pickle makes no sense ({error})") from error
    raise CheckpointError("the pickle ends without saying so")


class _Machine:
    """The pickle machine: a stack and a memo."""

    def __init__(self, storage: Any):
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._storage = storage

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            size = _TUPLES[name]
            self._need(size)
            stack[-size:] = [tuple(stack[-size:])]
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "TUPLE":
            stack.append(tuple(self._to_mark()))
        elif name in ("SETITEM", "SETITEMS"):
            items = self._to_mark() if name == "SETITEMS" else self._last(2)
            self._fill(items[::2], items[1::2])
        elif name in ("APPEND", "APPENDS"):
            items = self._to_mark() if name == "APPENDS" else self._last(1)
            self._top(list).extend(items)
        else:
            self._step_reference(name, argument)

    def _step_reference(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "GLOBAL":
            stack.append(_global(argument))
        elif name == "STACK_GLOBAL":
            stack.append(_global(" ".join(self._last(2))))
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name == "REDUCE":
            function, arguments = self._last(2)
            stack.append(_call(function, tuple(arguments)))
        elif name == "BUILD":
            stack.pop()  # attributes of an OrderedDict: version numbers of its modules
            self._top(dict)
        elif name not in ("PROTO", "FRAME"):
            raise CheckpointError(f"the pickle uses {name}; only tensors and containers are allowed")

    def _need(self, count: int) -> None:
        if len(self.stack) < count or any(value is _MARK for value in self.stack[-count:]):
            raise CheckpointError("the pickle makes no sense (its stack runs empty)")

    def _last(self, count: int) -> list[Any]:
        """Takes the last `count` values off the stack."""
        self._need(count)
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def _to_mark(self) -> list[Any]:
        """Takes the values above the last mark, and the mark, off the stack."""
        values: list[Any] = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def _fill(self, keys: list[Any], values: list[Any]) -> None:
        # Some versions of viz_data.pt use a tensor of one number as a key.
        keys = [key.item() if isinstance(key, np.ndarray) and key.ndim == 0 else key for key in keys]
        # Hashing a tuple of tuples that share their parts can take exponential time.
        if not all(type(key) in (str, int, float, bool) for key in keys):
            raise CheckpointError("the pickle uses a container or tensor as a key")
        self._top(dict).update(zip(keys, values, strict=True))

    def _top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise CheckpointError(f"the pickle treats a {type(self.stack[-1]).__name__} as a {kind.__name__}")
        return self.stack[-1]


def _rebuild_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any, flags: Any = None
) -> np.ndarray:
    """A read-only view of a storage, after checking that it stays inside."""
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, np.ndarray) or not all(type(n) is int and n >= 0 for n in numbers):
        raise CheckpointError("the pickle rebuilds a tensor from what is no storage, shape and strides")
    if len(shape) != len(strides):
        raise CheckpointError(f"a tensor has {len(shape)} axes but {len(strides)} strides")
    if flags:  # bits by which PyTorch negates or conjugates a tensor when it is read
        raise CheckpointError("a tensor is a negated or conjugated view; save a copy of it")
    size = math.prod(shape)
    if size == 0:
        return np.zeros(shape, storage.dtype)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if last >= storage.size:
        raise CheckpointError(f"a tensor of shape {list(shape)} reaches outside its {storage.size} entries")
    if size > storage.size:  # a small file could name an array of any size
        raise CheckpointError(
            f"a tensor of shape {list(shape)} repeats its {storage.size} entries; save a copy of it"
        )
    steps = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)


def _call(function: Any, arguments: tuple[Any, ...]) -> Any:
    """What the allowed functions return."""
    match function:
        case Global(name) if name == _REBUILD:
            return _rebuild_tensor(*arguments)
        case Global(name) if name == _PARAMETER:
            return arguments[0]
        case Global(name) if name == _ORDERED_DICT:
            return _pairs(*arguments)
        case _:
            raise CheckpointError("the pickle calls what is no function")


def _pairs(items: Any = ()) -> dict[str, Any]:
    """A dict of [key, value] pairs with text for keys."""
    if not all(isinstance(key, str) for key, _ in items):
        raise CheckpointError("the pickle uses a container or tensor as a key")
    return dict(items)


def _global(name: str) -> Global:
    """The name, if it is one of those that tensors and containers need."""
    module, _, attribute = name.partition(" ")
    if name in (_REBUILD, _PARAMETER, _ORDERED_DICT) or (module == "torch" and attribute.endswith("Storage")):
        return Global(name)
    raise CheckpointError(
        f"the pickle asks for {name.replace(' ', '.')!r}, which could run code: refused; "
        "only tensors and containers are allowed"
    )

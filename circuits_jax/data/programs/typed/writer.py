"""Small Python programs whose variables have kinds: each is defined, and used later as its kind allows.

A program imports, defines functions and classes, and calls them.  Every name is bound before it is used.
"""

from collections.abc import Callable, Sequence

from circuits_jax.data.programs.typed.filler import Filler, Scope
from circuits_jax.data.programs.typed.slots import PLAIN
from circuits_jax.data.programs.wording import Wording

# Modules of the standard library, with functions of theirs and the kinds of what these take.
_LIBRARY = {
    "math": (("math.sqrt", "int"), ("math.floor", "int")),
    "json": (("json.dumps", "dict"), ("json.loads", "str")),
    "os": (("os.listdir", "str"), ("os.remove", "str")),
    "sys": (("sys.exit", "int"), ("sys.getsizeof", "item")),
    "time": (("time.sleep", "int"), ("time.ctime", "int")),
}
# Kinds of parameters and attributes, frequent ones more often, and what they may be at the beginning.
_PARAMETERS = ("item list " * 3 + "int str " * 2 + "dict path flag").split()
_ATTRIBUTES = ("int", "str", "list", "set", "dict", "flag", "item", "lock")
_DEFAULTS = {"int": "$num", "str": "$text", "flag": "False", "item": "None", "list": "None"}
_EMPTY = {
    "set": "set()", "str": "$quote$quote", "list": "[]", "int": "$num", "dict": "{}", "flag": "False",
    "item": "None", "lock": "$locker()",
}  # fmt: skip
_BEGUN = ("set", "set", "str", "str", "list", "int")  # what a function may begin with and change later
_GLOBAL = ("module", "func", "call", "make", "locker")  # what functions see of the program


class TypedWriter:
    """Writes programs.

    Args:
      words: Lower-case identifiers, most frequent first; frequent ones are used more often.
      seed: Any integer.
      withheld: Whether a text holds what no program may hold.
    """

    def __init__(self, words: Sequence[str], seed: int, withheld: Callable[[str], bool]) -> None:
        self._wording = Wording(words, seed)
        self._random = self._wording.random
        self._filler = Filler(self._wording)
        self._withheld = withheld

    def program(self) -> str:
        """A program that holds nothing withheld, ending in a newline, its strings in one kind of quotes."""
        while True:
            self._filler.scope, self._filler.signatures = [], {}
            self._wording.new_mark()
            parts = [self._imports(), *(self._part() for _ in range(1 + int(2 * self._random())))]
            text = "\n\n\n".join(parts) + "\n"
            if not self._withheld(text):
                return text

    def _part(self) -> str:
        kind = self._random()
        if kind < 0.48:
            return self._function(self._filler.fresh(self._wording.name))
        if kind < 0.66:
            return self._class()
        if kind < 0.78:
            return self._decorator()
        return self._script()

    def _imports(self) -> str:
        """Lines of imports, and what they bring into scope."""
        filler, wording = self._filler, self._wording
        lines = []
        if self._random() < 0.25:
            module = wording.choose(tuple(_LIBRARY))
            lines.append(f"import {module}")
            filler.scope.append((module, "module"))
            for name, kind in _LIBRARY[module]:
                filler.scope.append((name, "call"))
                filler.signatures[name] = [("", kind)]
        for _ in range(1 + int(1.3 * self._random())):
            module = filler.fresh(wording.name)
            filler.scope.append((module, "module"))
            if self._random() < 0.4:
                lines.append(f"import {module}")
                filler.scope += [(f"{module}.{wording.name()}", "func") for _ in range(2)]
            else:
                brought = list(
                    dict.fromkeys(filler.fresh(wording.name) for _ in range(1 + int(2 * self._random())))
                )
                lines.append(f"from {module} import {', '.join(brought)}")
                filler.scope += [(name, "func") for name in brought]
        if self._random() < 0.85:
            bare = self._random() < 0.6
            lines.append("from threading import Lock" if bare else "import threading")
            filler.scope += [("threading", "module"), ("Lock" if bare else "threading.Lock", "locker")]
        return "\n".join(lines)

    def _script(self) -> str:
        """Statements at the margin, or in the block that runs when the program does."""
        count = 3 + int(3 * self._random())
        if self._random() < 0.25:
            size = len(self._filler.scope)
            body = self._filler.statements(count)
            del self._filler.scope[size:]
            mark = self._wording.mark
            return f"if __name__ == {mark}__main__{mark}:\n{_indented(body)}"
        return self._filler.statements(count)

    def _function(self, name: str, first: str = "", attributes: Sequence[tuple[str, str]] = ()) -> str:
        """A function, or a method whose first parameter is `first` and whose object has `attributes`."""
        filler, outer = self._filler, self._filler.scope
        parameters = self._parameters(int(4 * self._random()))
        filler.scope = [*self._global(), (name, "module"), *attributes, *parameters]
        filler.scope += [(word, word) for word in ("return", "yield")]
        given = [first, *(word for word, _ in parameters)] if first else [word for word, _ in parameters]
        if parameters and parameters[-1][1] in _DEFAULTS and self._random() < 0.2:
            given[-1] += f"={filler.fill(_DEFAULTS[parameters[-1][1]])}"
        body = [self._docstring()] if self._random() < 0.25 else []
        begun = [self._wording.choose(_BEGUN) for _ in range(int(2.4 * self._random()))]
        body += [filler.fill(f"${kind}:A = {_EMPTY[kind]}") for kind in begun]
        body.append(filler.statements(2 + int(2 * self._random())))
        body += [filler.use(kind) for kind in begun if self._random() < 0.7]
        body += self._end()
        filler.scope = outer
        if not first:
            filler.scope.append((name, "call"))
            filler.signatures[name] = parameters
        return _headed(f"def {name}({', '.join(given)}):", body)

    def _end(self) -> list[str]:
        """How a function ends: most often it returns a variable."""
        filler, chance = self._filler, self._random()
        known = filler.names(PLAIN)
        if chance < 0.55 and known:
            return [f"return {self._wording.later(known)}"]
        if chance < 0.7:
            return [f"return {filler.expression('any')}"]
        if chance < 0.78 and known:
            return [filler.fill("if $test:\n    return False\nreturn True")]
        return ["return True"] if chance < 0.84 else []

    def _class(self) -> str:
        """A class whose `__init__` sets the attributes that its methods use."""
        filler, wording, outer = self._filler, self._wording, self._filler.scope
        name = filler.fresh(wording.class_name)
        filler.scope = self._global()
        base = filler.names(("make",)) if self._random() < 0.3 else []
        head = f"class {name}({wording.later(base)}):" if base else f"class {name}:"
        attributes = self._parameters(1 + int(3 * self._random()), _ATTRIBUTES)
        given = [(word, kind) for word, kind in attributes if kind in _PARAMETERS and self._random() < 0.6]
        values = {
            word: word if (word, kind) in given else filler.fill(_EMPTY[kind]) for word, kind in attributes
        }
        body = [self._docstring()] if self._random() < 0.35 else []
        if self._random() < 0.2:
            body.append(f"{filler.fresh(wording.name)} = {filler.expression('any')}")
        body += [""] if body else []
        start = ["super().__init__()"] if base and self._random() < 0.5 else []
        start += [f"self.{word} = {value}" for word, value in values.items()]
        body.append(_headed(f"def __init__({', '.join(['self', *(word for word, _ in given)])}):", start))
        owned = [(f"self.{word}", kind) for word, kind in attributes]
        for _ in range(1 + int(2 * self._random())):
            method = filler.fresh(wording.name, [word for word, _ in attributes])
            body += ["", self._function(method, "self", owned)]
        filler.scope = [*outer, (name, "make")]
        filler.signatures[name] = given
        return _headed(head, body)

    def _decorator(self) -> str:
        """A decorator, and a function that it is put on."""
        filler, outer = self._filler, self._filler.scope
        name = filler.fresh(self._wording.name)
        arguments = self._wording.choose(("", "*args", "*args", "*args, **kwargs"))
        filler.scope = [*self._global(), (name, "module")]
        if arguments:
            filler.scope.append(("args", "list"))
        inner = [filler.statements(1 + int(2 * self._random()))] if self._random() < 0.7 else []
        inner.append(f"return func({arguments})")
        body = [self._docstring()] if self._random() < 0.25 else []
        body += [_headed(f"def wrapper({arguments}):", inner), "return wrapper"]
        filler.scope = [*outer, (name, "module")]
        function = self._function(filler.fresh(self._wording.name))
        return "\n".join((_headed(f"def {name}(func):", body), "", "", f"@{name}", function))

    def _parameters(self, count: int, kinds: Sequence[str] = _PARAMETERS) -> Scope:
        found: Scope = []
        for _ in range(count):
            kind = self._wording.choose(kinds)
            if kind == "lock" and not self._filler.names(("locker",)):
                kind = "item"
            found.append((self._filler.variable(kind, [word for word, _ in found]), kind))
        return found

    def _global(self) -> Scope:
        return [(name, kind) for name, kind in self._filler.scope if kind in _GLOBAL]

    def _docstring(self) -> str:
        return f'"""{self._wording.phrase()}."""'


def _headed(head: str, body: Sequence[str]) -> str:
    return "\n".join((head, *map(_indented, body)))


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.split("\n"))

"""Small Python programs from a grammar of idioms: what `programs.generator` is made of.

An idiom is a text with slots (`programs.idioms`); what fills a slot is an idiom again, or a word.
"""

import re
from collections.abc import Callable, Sequence

from circuits_jax.data.programs import idioms
from circuits_jax.data.programs.wording import Wording

_SLOT = re.compile(r"\$([A-DGa-z])")
_MAX_DEPTH = 3
Part = tuple[str, str, str]
"""(literal before, slot letter or "", indent of the slot's line)"""


def _compile(idiom: str) -> tuple[Part, ...]:
    parts, end = [], 0
    for slot in _SLOT.finditer(idiom):
        line = idiom[idiom.rfind("\n", 0, slot.start()) + 1 : slot.start()]
        indent = line[: len(line) - len(line.lstrip())]
        parts.append((idiom[end : slot.start()], slot[1], indent))
        end = slot.end()
    return (*parts, (idiom[end:], "", ""))


_SIMPLE, _COMPOUND, _TESTS, _STATEMENTS, _UNITS = (
    tuple(map(_compile, texts))
    for texts in (idioms.SIMPLE, idioms.COMPOUND, idioms.TESTS, idioms.STATEMENTS, idioms.UNITS)
)
_FLAT = tuple(_compile(idiom) for idiom in idioms.STATEMENTS if "\n" not in idiom)


class Writer:
    """Writes programs; `words` come most frequent first, frequent ones are used more often."""

    def __init__(self, words: Sequence[str], seed: int) -> None:
        self._wording = wording = Wording(words, seed)
        self._random = wording.random
        self._scope: list[str] = []
        self._depth = 0
        self._slots: dict[str, Callable[[], str]] = {
            "v": self._variable,
            "l": self._last,
            "n": wording.name,
            "f": wording.name,
            "k": wording.class_name,
            "d": wording.number,
            "s": wording.string,
            "w": wording.phrase,
            "q": self._mark,
            "e": self._expression,
            "x": self._compound,
            "t": self._test,
            "b": self._block,
            "o": self._comment,
        }

    def program(self) -> str:
        """One program: two to four units, ending in a newline, its strings in one kind of quotes.

        A window of training shows one author's habit, as one of real code does: without positions a network
        sees which quotes there are, and hardly which of them came last.
        """
        self._scope = [self._wording.name(), self._wording.name()]
        self._wording.new_mark()
        return "\n\n\n".join(self._unit() for _ in range(2 + int(3 * self._random()))) + "\n"

    def _unit(self) -> str:
        size = len(self._scope)
        text = self._expand(self._wording.choose(_UNITS))
        if text.startswith(("def ", "class ")):
            del self._scope[size:]
        return text

    def _expand(self, idiom: tuple[Part, ...]) -> str:
        """Fills an idiom's slots from left to right."""
        out: list[str] = []
        local: dict[str, str] = {}
        new: list[str] = []  # not in scope yet, so that an idiom's `$v` is another variable
        for literal, slot, indent in idiom:
            out.append(literal)
            if not slot:
                break
            if slot == "b":
                self._scope += new
                new = []
            if slot in "ABCDG" and slot not in local:
                local[slot] = self._fresh(local)
                new += [local[slot]] if slot != "G" else []
            text = local[slot] if slot in local else self._slots[slot]()
            out.append(text.replace("\n", "\n" + indent) if indent else text)
        self._scope += new
        return "".join(out)

    def _fresh(self, local: dict[str, str]) -> str:
        """A name that the idiom does not use yet."""
        name = self._wording.name()
        while name in local.values():
            name = self._wording.name()
        return name

    def _variable(self) -> str:
        """A name in scope, recent ones more often."""
        return self._wording.later(self._scope)

    def _last(self) -> str:
        return self._scope[-1]

    def _mark(self) -> str:
        return self._wording.mark

    def _comment(self) -> str:
        return self._wording.comment(0.3)

    def _expression(self) -> str:
        simple = self._depth > 1 or self._random() < 0.7
        return self._expand(self._wording.choose(_SIMPLE)) if simple else self._compound()

    def _compound(self) -> str:
        size = len(self._scope)
        self._depth += 1
        text = self._expand(self._wording.choose(_COMPOUND))
        self._depth -= 1
        del self._scope[size:]  # parameters of a lambda
        return text

    def _test(self) -> str:
        return self._expand(self._wording.choose(_TESTS))

    def _block(self) -> str:
        """One to three statements, nested at most three deep."""
        self._depth += 1
        choices = _STATEMENTS if self._depth < _MAX_DEPTH else _FLAT
        lines = [self._expand(self._wording.choose(choices)) for _ in range(1 + int(3 * self._random()))]
        self._depth -= 1
        return "\n".join(lines)

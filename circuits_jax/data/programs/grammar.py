"""Small Python programs from a grammar of idioms: what `programs.generator` is made of.

An idiom is a text with slots (`programs.idioms`); what fills a slot is an idiom again, or a word.
"""

import random
import re
from collections.abc import Callable, Sequence

from circuits_jax.data.programs import idioms
from circuits_jax.data.programs.words import UNSEEN_WORDS

_SLOT = re.compile(r"\$([A-DGa-z])")
_MAX_DEPTH = 3
# Frequent in comments, rare as names: for strings and comments only.
ENGLISH = frozenset(
    re.findall(
        "[a-z]+",
        """
        a about an are as at been but can could do does each either even given had have he here how however if
        into it its itself just made many may more most must no non note of only other our out over own same
        see should since some such than that the their them then there these they those though through too
        under until up used usually very was we well were what when where whether which while who whose why
        will within without would you your
        """,
    )
)

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
        # Only `random()` is used: the one method whose stream Python promises to keep.
        self._random = random.Random(seed).random
        self._words = words
        self._names = [word for word in words if word not in ENGLISH]
        titles = (name.title().replace("_", "") for name in self._names)
        self._classes = [title for title in titles if title not in UNSEEN_WORDS]
        self._scope: list[str] = []
        self._depth = 0
        self._mark = '"'
        self._slots: dict[str, Callable[[], str]] = {
            "v": self._variable,
            "l": self._last,
            "n": self._name,
            "f": self._name,
            "k": self._class,
            "d": self._number,
            "s": self._string,
            "w": self._phrase,
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
        self._scope = [self._name(), self._name()]
        self._mark = '"' if self._random() < 0.5 else "'"
        return "\n\n\n".join(self._unit() for _ in range(2 + int(3 * self._random()))) + "\n"

    def _unit(self) -> str:
        size = len(self._scope)
        text = self._expand(self._pick(_UNITS))
        if text.startswith(("def ", "class ")):
            del self._scope[size:]
        return text

    def _pick(self, choices: Sequence[tuple[Part, ...]]) -> tuple[Part, ...]:
        return choices[int(self._random() * len(choices))]

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
            elif slot == "q" and slot not in local:
                local[slot] = self._mark
            text = local[slot] if slot in local else self._slots[slot]()
            out.append(text.replace("\n", "\n" + indent) if indent else text)
        self._scope += new
        return "".join(out)

    def _fresh(self, local: dict[str, str]) -> str:
        """A name that the idiom does not use yet."""
        name = self._name()
        while name in local.values():
            name = self._name()
        return name

    def _skewed(self, words: Sequence[str]) -> str:
        return words[int(len(words) * self._random() ** 2)]

    def _name(self) -> str:
        return self._skewed(self._names)

    def _word(self) -> str:
        return self._skewed(self._words)

    def _variable(self) -> str:
        """A name in scope, recent ones more often."""
        return self._scope[-1 - int(len(self._scope) * self._random() ** 2)]

    def _last(self) -> str:
        return self._scope[-1]

    def _class(self) -> str:
        return self._skewed(self._classes)

    def _number(self) -> str:
        return str(int(10 * self._random()) if self._random() < 0.8 else int(100 * self._random()))

    def _phrase(self) -> str:
        return " ".join([self._word().replace("_", " ").strip() for _ in range(1 + int(3 * self._random()))])

    def _string(self) -> str:
        return f"{self._mark}{self._phrase()}{self._mark}"

    def _comment(self) -> str:
        return f"  # {self._phrase()}" if self._random() < 0.3 else ""

    def _expression(self) -> str:
        simple = self._depth > 1 or self._random() < 0.7
        return self._expand(self._pick(_SIMPLE)) if simple else self._compound()

    def _compound(self) -> str:
        size = len(self._scope)
        self._depth += 1
        text = self._expand(self._pick(_COMPOUND))
        self._depth -= 1
        del self._scope[size:]  # parameters of a lambda
        return text

    def _test(self) -> str:
        return self._expand(self._pick(_TESTS))

    def _block(self) -> str:
        """One to three statements, nested at most three deep."""
        self._depth += 1
        choices = _STATEMENTS if self._depth < _MAX_DEPTH else _FLAT
        lines = [self._expand(self._pick(choices)) for _ in range(1 + int(3 * self._random()))]
        self._depth -= 1
        return "\n".join(lines)

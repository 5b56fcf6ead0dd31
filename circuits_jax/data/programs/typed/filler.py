"""Fills the slots of typed idioms: with variables in scope, words, and idioms again."""

from collections.abc import Callable, Sequence

from circuits_jax.data.programs.typed.control import BRANCHES, LOOPS
from circuits_jax.data.programs.typed.expressions import EXPRESSIONS, LEAVES, TESTS
from circuits_jax.data.programs.typed.gathering import GATHERING
from circuits_jax.data.programs.typed.practice import FILES, FILES_AND_LOCKS, NESTED, SWAPS
from circuits_jax.data.programs.typed.slots import ANY, LETTERS, PLAIN, Part, read_idiom
from circuits_jax.data.programs.typed.statements import CALLS, DEFINITIONS, OUTPUT, USES
from circuits_jax.data.programs.wording import Wording
from circuits_jax.data.programs.words import WORDS

Table = Sequence[str]
Scope = list[tuple[str, str]]
"""Names and their kinds, the latest last."""

_NESTED = 3  # expressions in each other
_TRIES = 12  # to find an idiom of a table that suits the variables in scope
_NOTES, _REMARKS = 0.35, 0.04  # lines that end with a comment, of those that may; comments before statements
_CURRENT = ("set", "str", "list", "int", "dict")  # may be called `current`, as a task's variable is
_LETTERS = WORDS["train"]["i"]

# How many statements in a hundred are of which table, first in functions and scripts, then in blocks within;
# the others use a variable.  Blocks in those have idioms of one line alone.
_SHARES = (
    (3, 10, DEFINITIONS),
    (4, 13, OUTPUT),
    (2, 9, CALLS),
    (6, 8, LOOPS),
    (8, 12, BRANCHES),
    (9, 8, SWAPS),
    (13, 12, NESTED),
    (37, 10, GATHERING),
    (1, 0, FILES),
    (17, 2, FILES_AND_LOCKS),
)


_FIRST = tuple(texts for share, _, texts in _SHARES for _ in range(share))
_WITHIN = tuple(texts for _, share, texts in _SHARES for _ in range(share))
_FLAT = tuple(tuple(text for text in texts if "\n" not in text) for texts in _WITHIN)


class Filler:
    """Writes expressions, statements and blocks over the variables in scope.

    Attributes:
      wording: Draws words, and everything else.
      scope: What may be named now.
      signatures: The parameters of functions ("call") and classes ("make") in scope, names and kinds.
    """

    def __init__(self, wording: Wording) -> None:
        self.wording = wording
        self.scope: Scope = []
        self.signatures: dict[str, Scope] = {}
        self._depth = self._nested = 0  # of blocks, of expressions
        self._slots: dict[str, Callable[[], str]] = {
            "num": wording.number,
            "few": lambda: str(2 + int(8 * wording.random())),
            "text": wording.string,
            "words": wording.phrase,
            "quote": lambda: wording.mark,
            "note": lambda: wording.comment(_NOTES),
            "test": lambda: self.fill(self._pick(TESTS) or LEAVES["flag"][0]),
            "last": lambda: self.names(PLAIN)[-1],
            "flat": lambda: self._statement(_FLAT),
            "block": self.block,
            "call": lambda: self.call("call"),
            "make": lambda: self.call("make"),
        }

    def names(self, kinds: Sequence[str]) -> list[str]:
        """What is in scope of some kinds, the latest last."""
        return [name for name, kind in self.scope if kind in kinds]

    def fresh(self, draw: Callable[[], str], taken: Sequence[str] = ()) -> str:
        """A name that is not in scope, nor one of `taken`."""
        known = {name for name, _ in self.scope}.union(taken)
        for _ in range(50):
            name = draw()
            if name not in known:
                return name
        return next(f"{name}{number}" for number in range(2, 1000) if f"{name}{number}" not in known)

    def variable(self, kind: str, taken: Sequence[str] = ()) -> str:
        """A name for a new variable of `kind`."""
        random = self.wording.random
        if kind in LETTERS:
            return self.fresh(lambda: self.wording.earlier(_LETTERS), taken)
        if kind in _CURRENT and random() < 0.2:
            return self.fresh(lambda: "current" if random() < 0.5 else self.wording.name(), taken)
        return self.fresh(self.wording.name, taken)

    def block(self) -> str:
        """One or two statements, after which what they defined is out of scope."""
        size = len(self.scope)
        text = self.statements(1 + int(2 * self.wording.random()))
        del self.scope[size:]
        return text

    def statements(self, count: int) -> str:
        """Statements, one level deeper."""
        tables = (_FIRST, _WITHIN, _FLAT)[self._depth]
        self._depth += 1
        lines = []
        for _ in range(count):
            if self.wording.random() < _REMARKS:
                lines.append(f"# {self.wording.phrase()}")
            lines.append(self._statement(tables))
        self._depth -= 1
        return "\n".join(lines)

    def use(self, kind: str) -> str:
        """A statement that changes a variable of `kind`, which must be in scope."""
        return self.fill(self._pick(USES[kind]) or USES[kind][0])

    def expression(self, kind: str, avoided: Sequence[str] = ()) -> str:
        """An expression of `kind`, without `avoided` names if it can; one that is nested deeply is plain."""
        size = len(self.scope)
        self._nested += 1
        idiom = self._pick(EXPRESSIONS[kind]) if self._nested < _NESTED else None
        text = self.fill(idiom or self.wording.choose(LEAVES[kind]), avoided)
        self._nested -= 1
        del self.scope[size:]
        return text

    def call(self, kind: str) -> str:
        """A call of a function ("call") or class ("make") of the program, by position or by name."""
        name = self.wording.later(self.names((kind,)))
        values = [(word, self.expression(each)) for word, each in self.signatures[name]]
        named = self.wording.random() < 0.35 and all(word for word, _ in values)
        return f"{name}({', '.join(f'{word}={value}' if named else value for word, value in values)})"

    def fill(self, idiom: str, avoided: Sequence[str] = ()) -> str:
        """Fills an idiom's slots from left to right; a new variable is in scope from the next line on."""
        out: list[str] = []
        labels: dict[str, str] = {}
        used = list(avoided)
        coming: Scope = []
        lasting: Scope = []
        size = len(self.scope)
        for part in read_idiom(idiom).parts:
            out.append(part.before)
            if "\n" in part.before:
                self.scope += coming
                coming = []
            if not part.slot:
                out.append(labels.get(part.label, ""))
                continue
            if part.label.isupper():
                text = self.variable(part.slot, used)
                used.append(text)
                coming.append((text, LETTERS.get(part.slot) or ("item" if part.slot == "any" else part.slot)))
                lasting += coming[-1:] if part.lasting else []
            else:
                before = len(self.scope)
                text = self._filled(part, used)
                if part.indent:  # what a statement within a block sets is not set on every way
                    del self.scope[before:]
            if part.label:
                labels[part.label] = text
            out.append(text.replace("\n", "\n" + part.indent) if part.indent else text)
        self.scope[size:] = lasting
        return "".join(out)

    def _filled(self, part: Part, used: list[str]) -> str:
        """What fills a slot that defines nothing; `used` are names that its idiom has by now, or avoids."""
        if part.expression:
            return self.expression(part.slot, used)
        if part.slot == "name":  # of attributes and arguments: no two alike
            used.append(self.fresh(self.wording.name, used))
            return used[-1]
        if part.slot in self._slots:
            return self._slots[part.slot]()
        known = self.names(ANY if part.slot == "any" else (part.slot,))
        if others := [name for name in known if name not in used]:
            used.append(self.wording.later(others))
            return used[-1]
        if part.slot in LEAVES and part.slot != "item" and not part.label:
            return self.fill(self.wording.choose(LEAVES[part.slot]))
        return self.wording.later(known)

    def _pick(self, table: Table) -> str | None:
        """One of `table` that suits what is in scope, if one turns up."""
        once: set[str] = set()
        twice: set[str] = set()
        for _ in range(_TRIES):
            text = self.wording.choose(table)
            idiom = read_idiom(text)
            if idiom.needs and not once:
                for _, kind in self.scope:
                    for each in (kind, "any") if kind in ANY else (kind,):
                        (twice if each in once else once).add(each)
            if idiom.needs <= once and idiom.twice <= twice:
                return text
        return None

    def _statement(self, tables: Sequence[Table]) -> str:
        place = int(100 * self.wording.random())
        table = tables[place] if place < len(tables) else ()
        idiom = self._pick(table) if table else self._use()
        return self.fill(idiom or self._pick(DEFINITIONS) or DEFINITIONS[0])

    def _use(self) -> str | None:
        """A statement that changes a variable in scope, the latest most likely."""
        kinds = [kind for _, kind in self.scope if kind in USES]
        return self._pick(USES[self.wording.later(kinds)]) if kinds else None

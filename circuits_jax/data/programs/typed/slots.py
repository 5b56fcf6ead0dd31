"""Idioms of typed programs: texts with slots, `$` and a name.

    $list      a variable in scope of that kind
    $list?     an expression of that kind
    $list:A    a new variable of that kind; $A is the same again
    $list:a    a variable in scope of that kind; $a is the same again
    $words     one to three words; likewise $num, $few (two to nine), $text (a string), $quote (the program's
               quote character), $name, $test, $last (the variable set last), $note (a trailing comment or
               nothing), $flat (one statement of one line) and $block (statements, indented like their slot)

Kinds are int, str, list, set, dict, grid (a list of lists), item (of a list, or any object), flag, path,
file, lock, locker (what makes locks), func (that was imported), call and make (a call of a function and of a
class of the program), return and yield (in functions alone).  `any` is int, str or item; `index` and `short`
are called by one letter.

An idiom is used where what it needs is in scope.  A variable that it sets at its margin stays in scope,
others are in scope on its later lines alone.
"""

import collections
import dataclasses
import functools
import re

ANY = ("int", "str", "item")
PLAIN = (*ANY, "list", "set", "dict", "grid", "flag")
KINDS = (*PLAIN, "path", "file", "lock", "locker", "func", "call", "make", "return", "yield", "any")
LETTERS = {"index": "int", "short": "item"}  # kinds of variables that are called by a letter

_SLOT = re.compile(r"\$(?:([a-z]{2,})(\?|:[A-Za-z])?|([A-Za-z])(?![A-Za-z]))")
_TARGETS = re.compile(r"(\$[a-z]+:[A-Z](, | = ))*")


@dataclasses.dataclass(frozen=True)
class Part:
    """A slot of an idiom, and the text before it.

    Attributes:
      before: The text.
      slot: Its kind, or what else fills it; "" of a label alone, and of the last part, which has no slot.
      label: Its letter, or "".
      expression: Whether an expression of the kind is asked for.
      indent: That of its line.
      lasting: Whether a variable that is new here outlives the idiom: the line, at the margin, sets it.
    """

    before: str
    slot: str = ""
    label: str = ""
    expression: bool = False
    indent: str = ""
    lasting: bool = False


@dataclasses.dataclass(frozen=True)
class Idiom:
    """A text with slots.

    Attributes:
      parts: In order.
      needs: The kinds of which a variable must be in scope.
      twice: Those of which two must.
    """

    parts: tuple[Part, ...]
    needs: frozenset[str]
    twice: frozenset[str]


@functools.cache
def read_idiom(text: str) -> Idiom:
    """The idiom that `text` spells."""
    parts, end = [], 0
    needs: dict[str, set[str]] = collections.defaultdict(set)
    for found in _SLOT.finditer(text):
        slot, mark, again = found[1] or "", found[2] or "", found[3] or ""
        line = text[text.rfind("\n", 0, found.start()) + 1 : found.start()]
        indent = line[: len(line) - len(line.lstrip())]
        label = again or mark.lstrip(":?")
        lasting = _TARGETS.fullmatch(line) is not None
        parts.append(Part(text[end : found.start()], slot, label, mark == "?", indent, lasting))
        end = found.end()
        if slot in KINDS and mark != "?" and not label.isupper():
            needs[slot].add(label)
        elif slot in ("test", "last"):
            needs["any"].add("")
    twice = frozenset(kind for kind, labels in needs.items() if len(labels) > 1)
    return Idiom((*parts, Part(text[end:])), frozenset(needs), twice)

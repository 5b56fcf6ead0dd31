"""Which texts spell a template that choices are made by or figures reported of: no generated program may.

A template is spelled by a prompt and the answer that is right after it.  Texts and templates are compared
line by line as *shapes*: names and words are `_`, numbers `0`, strings `"_"` whatever their quotes; keywords
and the names that templates spell (`set`, `open`) stay.  Blank lines, lines of comment and the depth of the
whole count for nothing.  So a text is refused that spells a template with any words in its slots, and more.
"""

import dataclasses
import functools
import keyword
import os
import re
from collections.abc import Set

from circuits_jax.tasks.builtin.table import TASKS

_ANSWER = re.compile(r" *(\$[a-z]\d|\w+|[^\w\s]|\n)")  # what a continuation begins with
_SLOT = re.compile(r"\$(?:(pad)|(d)\d|([a-z])\d)")
_LITERAL = re.compile(r"""#.*|\"\"\"[^"]*\"\"\"|"[^"\n]*"?|'[^'\n]*'?""")
_FIELD = re.compile(r"\{[^{}]*\}?")  # of an f-string
_WORD = re.compile(r"([A-Za-z_]\w*|\d+)")
# What one task's variable is always called; another has the same templates with any name.
_FIXED = "current"


@dataclasses.dataclass
class _Node:
    """What may follow some lines of a template.

    Attributes:
      then: The next line, where it is not the last -> what may follow that one.
      ends: What the last line may begin with.
    """

    then: dict[str, "_Node"] = dataclasses.field(default_factory=dict)
    ends: tuple[str, ...] = ()


def spells_withheld(text: str) -> bool:
    """Whether `text`, Python, holds a template of a built-in task's splits select or test."""
    lines = shape(text, _spelled())
    for start, line in enumerate(lines):
        depth, at = len(line) - len(line.lstrip()), start
        node: _Node | None = _templates()
        while node is not None and at < len(lines):
            found = _at(lines[at], depth)
            if f"{found}\n".startswith(node.ends):
                return True
            node, at = node.then.get(found), at + 1
    return False


def shape(text: str, spelled: Set[str]) -> list[str]:
    """The shapes of a text's lines, without blank ones and comments; names that are `spelled` stay."""
    pieces = _WORD.split(_LITERAL.sub(_literal, text))
    pieces[1::2] = [word if word in spelled else "0" if word.isdigit() else "_" for word in pieces[1::2]]
    return [line for line in "".join(pieces).split("\n") if line.strip(" #")]


def _literal(found: re.Match[str]) -> str:
    """The shape of a comment or a string; one without its end is the beginning of one with it."""
    whole = found[0]
    if whole[0] == "#":
        return "#"
    body = whole.strip("\"'")
    inside = ("".join(_FIELD.findall(body)) or "_") if body else ""
    return f'"{inside}"' if whole[-1] in "\"'" else f'"{inside}'


def _at(line: str, depth: int) -> str:
    """`line` as it would stand `depth` further to the left; empty if it cannot."""
    return "" if line[:depth].strip() else line[depth:]


@functools.cache
def _asked() -> tuple[str, ...]:
    """Prompts and answers of templates that are withheld, with words in their slots."""
    asked = (
        prompt + _answer(prompt, after, other)
        for task in TASKS.values()
        for split in ("select", "test")
        for template in task.templates[split]
        for prompt, after, other in zip(
            template.prompts, template.continuations, reversed(template.continuations), strict=True
        )
    )
    return tuple(
        _SLOT.sub(lambda slot: "# _" if slot[1] else "0" if slot[2] else "_", text) for text in asked
    )


def _answer(prompt: str, after: str, other: str) -> str:
    """The beginning of the continuation `after`, as far as it takes to tell it from the `other` one."""
    shared = re.sub(r"\$[a-z]?$", "", os.path.commonprefix((after, other)))
    if not (prompt + shared).rpartition("\n")[2].strip():  # the answer is an indent
        return after[: len(after) - len(after.lstrip())]
    found = _ANSWER.match(after, len(shared))
    return shared + (found[0] if found else "")


@functools.cache
def _spelled() -> frozenset[str]:
    words = {word for text in _asked() for word in _WORD.findall(_LITERAL.sub(_literal, text))}
    return frozenset(keyword.kwlist) | words - {"_", "f", "0", _FIXED}


@functools.cache
def _templates() -> _Node:
    """The beginning of all templates."""
    root = _Node()
    for text in _asked():
        before, _, last = text.removesuffix("\n").rpartition("\n")
        ends = (shape(last, _spelled()) or [last])[0] + text[len(text.removesuffix("\n")) :]
        node = root
        for line in shape(before, _spelled()):
            node = node.then.setdefault(line, _Node())
        node.ends = tuple(dict.fromkeys((*node.ends, ends)))
    return root

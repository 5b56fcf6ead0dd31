"""Tables of idioms, read from texts in which they look as they will in a program."""

import collections
import re
import textwrap


def phrases(text: str) -> tuple[str, ...]:
    """Idioms of one line each, between which stand two blanks or more, or the end of a line."""
    return tuple(re.split(r"\s*\n\s*|  +", text.strip()))


def blocks(text: str) -> tuple[str, ...]:
    """Idioms of several lines, between which stands an empty line."""
    return tuple(textwrap.dedent(text).strip("\n").split("\n\n"))


def by_kind(text: str) -> dict[str, tuple[str, ...]]:
    """Idioms of one line each, as `phrases` has them; each line of `text` begins with their kind."""
    found: dict[str, tuple[str, ...]] = collections.defaultdict(tuple)
    for line in text.strip().splitlines():
        kind, *idioms = phrases(line)
        found[kind] += tuple(idioms)
    return dict(found)

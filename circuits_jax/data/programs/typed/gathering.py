"""Variables that begin empty and take something in later: typed programs' practice for sets and strings."""

import itertools
import re
from collections.abc import Iterator

from circuits_jax.data.programs.typed.texts import blocks

# Kind of a variable, how it begins, how it takes in `#`, and what it takes in if nothing is named; sets and
# strings, which a task asks for, are more frequent.
_GATHERED = (
    *(("set", "set()", ".add(#)", "$any?"), ("str", "$quote$quote", " += #", "$str?")) * 4,
    *(("list", "[]", ".append(#)", "$any"), ("int", "$num", " += $num", "")),
)
_AROUND_ONE = blocks(
    """
    FIRST
    for $item:B in $list:$note
        GROW<$B>

    FIRST
    for $item:B in $list:$note
        GROW<$B>

    FIRST
    for $item:B in $list:$note
        if $B:
            GROW<$B>

    FIRST
    for $item:B in $list:$note
        if $B.$name:
            GROW<$B>

    FIRST
    for $item:B in $list:$note
        if $B > $num:
            GROW<$B.$name>

    FIRST
    for $item:B in $item.$name:
        GROW<$B>

    FIRST
    for $item:B in $func($any):$note
        GROW<$B>

    FIRST
    for $item:B in reversed($list):$note
        GROW<$B>

    FIRST
    for $item:B in $item.$name():$note
        $flat
        GROW<$B>

    FIRST
    for $item:B in $list:$note
        $flat
        if $test:
            GROW<$B>

    FIRST
    for $index:B in range($num):$note
        GROW<>

    FIRST
    for $index:B, $item:C in enumerate($list?):$note
        $flat
        GROW<$C>

    FIRST
    for $index:B in range($num):$note
        $item:C = $func($B)$note
        GROW<$C>

    FIRST
    for $index:B, $item:C in enumerate($list):$note
        GROW<$C>

    FIRST
    for $index:B, $item:C in enumerate($item.$name):$note
        if $B > $num:
            GROW<$C>

    FIRST
    while $list:b:
        GROW<$b.pop()>

    FIRST
    while $item:b:
        GROW<$b>

    FIRST
    $int:B = $num
    while $item:c:
        GROW<$c>

    FIRST
    $int:B = $num
    while $B < $num:
        GROW<>
        $B += $num

    FIRST
    while True:
        GROW<>
        if $test:
            break

    FIRST
    while True:
        $item:B = $func($any)
        if $B:
            break
        GROW<$B>

    FIRST
    if $any:b:
        GROW<$b>

    FIRST
    if not $any:b:
        GROW<$b>

    FIRST
    if $test:
        GROW<>

    FIRST
    $flat
    if $any:b:
        GROW<$b>

    FIRST
    $flat
    $flat
    GROW<>

    FIRST
    $flat
    GROW<>

    FIRST
    GROW<>

    FIRST
    $flat
    for $item:B in $list:$note
        GROW<$B>

    FIRST
    $flat
    $flat
    for $item:B in $list:$note
        GROW<$B>
        $flat

    FIRST
    try:
        GROW<$func($any)>
    except ValueError:
        $flat
    """
)
_AROUND_TWO = blocks(
    """
    FIRST
    OTHER
    for $item:C in $list:$note
        GROW<$C>
        EXTEND<$C>

    FIRST
    OTHER
    for $item:C in $list:$note
        EXTEND<$C>
        GROW<$C>

    FIRST
    OTHER
    for $item:C in $list:$note
        if $C.$name:
            GROW<$C>
        else:
            EXTEND<$C>

    FIRST
    OTHER
    if $any:c:
        GROW<$c>
        EXTEND<$c>

    FIRST
    $flat
    OTHER
    while $list:c:
        $item:D = $c.pop()$note
        GROW<$D>
        $flat
        EXTEND<$D>
    """
)


def _gathering() -> Iterator[str]:
    """One variable, or two of different kinds, that begin empty and take in something later."""
    for kind, text in itertools.product(_GATHERED, _AROUND_ONE):
        yield _grown(text, ("FIRST", "GROW", "A"), kind)
    for one, other in itertools.permutations(dict.fromkeys(_GATHERED), 2):
        for text in _AROUND_TWO:
            yield _grown(_grown(text, ("FIRST", "GROW", "A"), one), ("OTHER", "EXTEND", "B"), other)


def _grown(text: str, names: tuple[str, str, str], gathered: tuple[str, str, str, str]) -> str:
    """`text` with a variable of a kind in it; `names` are those of its beginning, growth and label."""
    (first, word, label), (kind, begin, grow, default) = names, gathered
    text = text.replace(first, f"${kind}:{label} = {begin}")
    return re.sub(f"{word}<(.*?)>", lambda found: f"${label}" + grow.replace("#", found[1] or default), text)


GATHERING = tuple(_gathering())

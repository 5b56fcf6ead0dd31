"""Swaps, nested lists, files and locks: typed programs' practice for tasks that need memory."""

import itertools
import re
from collections.abc import Iterator

from circuits_jax.data.programs.typed.texts import blocks, phrases

SWAPS = blocks(
    """
    $int:a, $int:b = $b, $a

    $any:a, $any:b = $b, $a

    $any:a, $any:b = $b, $a$note

    $item:a.$name:b, $a.$name:c = $a.$c, $a.$b

    $list:a[$num:b], $a[$num:c] = $a[$c], $a[$b]

    if $int:a > $int:b:
        $a, $b = $b, $a

    if $int:a < $int:b:
        $a, $b = $b, $a
        $flat

    if $any:
        $any:a, $any:b = $b, $a

    while $int:a < $int:b:
        $a, $b = $b, $a

    while $int:b:
        $int:a, $b = $b, $a % $b

    for $index:A in range($num):
        $int:a, $int:b = $b, $a + $b

    for $item:A in $list:
        if $A:
            $any:a, $any:b = $b, $a

    $int:A, $int:B = $num, $num
    $A, $B = $B, $A

    $int:A = $num
    $int:B = $num
    $A, $B = $B, $A

    $int:A = $num
    $int:B = $num
    $flat
    $A, $B = $B, $A

    $item:A = $item.$name
    $item:B = $item.$name
    $A, $B = $B, $A

    $item:A, $item:B = $list
    if $B:
        $A, $B = $B, $A

    $item:A, $item:B = $list
    for $item:C in $list:
        $A, $B = $B, $A

    $int:A = $int:B = $num
    while $A < $num:
        $A, $B = $B, $A + $B

    $any:A = $any
    $any:B = $any
    if $A != $B:
        $A, $B = $B, $A

    $int:A, $int:B = $num, $num
    for $index:C in range($num):
        $flat
        $A, $B = $B, $A
    """
)

_ROWS = phrases(
    """
    [$num, $num], [$num, $num]  [$num, $num, $num], [$num, $num, $num]  [$num], [$num]
    [$any, $num], [$any, $num]  [$any, $any], [$any, $any]  [$num, $num], [$num, $num], [$num, $num]
    [$num], [$num, $num]  [$text, $text], [$text, $text]  [$int, $num, $num], [$num, $num]
    """
)
_PLACES = (
    *phrases(
        """
        $list:A = ROWS  $list:A = ROWS  $list:A = ROWS$note  $item.$name = ROWS  $dict[$text] = ROWS
        $func(ROWS)  $func($any, ROWS)  print(ROWS)  $list.append((ROWS))  $list[$num] = ROWS
        $list:A = $list:B = ROWS  $list:A = $list if $test else ROWS  $item:A = $func(ROWS)
        """
    ),
    *blocks(
        """
        for $list:A in ROWS:
            $block

        if $test:
            $return ROWS
        """
    ),
)


def _nested() -> Iterator[str]:
    """Lists side by side, and in a list, in every place that both may stand."""
    for rows, place in itertools.product(_ROWS, _PLACES):
        yield place.replace("ROWS", rows)
        grid = place.replace("$list:", "$grid:") if re.search(r"= ROWS(\$note)?$", place) else place
        yield grid.replace("ROWS", f"[{rows}]")


NESTED = tuple(_nested())

_OPENED = blocks(
    """
    with open($A) as $file:C:
        $block

    with open($A) as $file:C:
        $str:D = $C.read()

    with open($A) as $file:C:
        for $str:D in $C:
            $block

    with open($A, $text) as $file:C:
        $func($C)
    """
)
_TAKEN = blocks(
    """
    with $B:
        $flat

    with $B:
        $block

    with $B:
        $func($A)

    with $B:
        $item.$name($A)
    """
)


# A path and a lock: the one that was set last is used, now and then after another statement.
FILES_AND_LOCKS = tuple(
    first + between + use
    for first, uses in (
        ("$lock:B = $lock?\n$path:A = $path?\n", _OPENED),
        ("$path:A = $path?\n$lock:B = $lock?\n", _TAKEN),
    )
    for between in ("", "", "", "$flat\n")
    for use in uses
)
FILES = (
    *(f"$path:A = $path?\n{use}" for use in _OPENED),
    *(use.replace("$A", "$path") for use in _OPENED),
    *blocks(
        """
        $file:A = open($path)
        $str:B = $A.read()
        $A.close()

        $file:A = open($path)
        for $str:B in $A:
            $block

        with $lock:
            $block

        with $func($any) as $item:A:
            $block

        with $func($any, $any) as $item:A:
            $block

        with $item.$name($any, $num) as $item:A:
            $block

        $item:A = $func($any, $any)
        $A.$name()
        """
    ),
)

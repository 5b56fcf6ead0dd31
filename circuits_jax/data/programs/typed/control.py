"""Loops and branches of typed programs (`typed.slots` has how idioms are written)."""

from circuits_jax.data.programs.typed.texts import blocks

LOOPS = blocks(
    """
    for $item:A in $list:$note
        $block

    for $item:A in $item.$name:$note
        $block

    for $item:A in $item.$name():$note
        $block

    for $item:A in $item[$num]:$note
        $block

    for $item:A in [$any, $any]:$note
        $block

    for $item:A in reversed($list):$note
        $block

    for $item:A in sorted($set):$note
        $block

    for $item:A in $list?:$note
        $block

    for $item:A in $func($any):$note
        $block

    for $list:A in $grid:$note
        for $int:B in $A:
            $block

    for $str:A in $dict:$note
        $block

    for $str:A, $item:B in $dict.items():$note
        $block

    for $index:A in range($num):$note
        $block

    for $index:A in range($num):$note
        $block

    for $index:A in range($int):$note
        $block

    for $index:A in range(len($list)):$note
        $block

    for $index:A in range($num, $int):$note
        $block

    for $index:A in range($num):$note
        for $index:B in range($num):
            $block

    for $index:A, $item:B in enumerate($list):$note
        $block

    for $index:A, $item:B in enumerate($list):$note
        $block

    for $index:A, $item:B in enumerate($list):$note
        if $B == $any:
            $block

    for $index:A, $item:B in enumerate($item.$name):$note
        $block

    for $index:A, $item:B in enumerate($list?):$note
        $block

    for $index:A, $item:B in enumerate($func($any)):$note
        $block

    for $index:A, $item:B in enumerate($func()):$note
        $block

    for $index:A, $item:B in enumerate($item.$name()):$note
        $block

    for $index:A, $item:B in enumerate([$any, $any]):$note
        $block

    for $index:A, $item:B in enumerate(sorted($list)):$note
        $block

    for $index:A, $list:B in enumerate($grid):$note
        $block

    while $int:a < $num:
        $block
        $a += $num

    while $int:a < $int:
        $block
        $a += $num

    while $int:a < len($list:b):
        $item:C = $b[$a]$note
        $block
        $a += $num

    while $list:a:
        $item:B = $a.pop()
        $block

    while $int:a > $num:
        $a -= $num
        $block

    while True:
        $block
        if $test:
            break

    while True:
        $block
        if $test:
            break

    while True:
        $block
        if $test:
            break

    while True:
        $flat
        if $test:
            $return $any

    while True:
        if $test:
            break
        $flat

    while True:
        $flat
        if $test:
            break
        $flat

    while True:
        $item:A = $func($any)
        if not $A:
            break
        $block
    """
)

_CHAINS = blocks(
    """
    if $str:a == $text:
        $int:A = $num
    elif $a == $text:
        $A = $num
    else:
        $A = $num

    if $any:a == $text:
        $func($any)
    elif $a == $text:
        $func($any)
    else:
        $func($any)

    if $any:a == $text:
        $flat
    elif $a == $text:
        $flat
    else:
        $flat

    if $any:a == $text:
        $flat
    elif $a == $text:
        $flat
    elif $a == $text:
        $flat
    else:
        $flat

    if $item:a.$name:b == $text:
        $flat
    elif $a.$b == $text:
        $flat
    else:
        $flat

    if $int:a > $num:
        $flat
    elif $a < $num:
        $flat
    else:
        $flat

    if $any:a == $text:
        $return $any
    elif $a == $text:
        $return $any
    else:
        $return $any

    $str:A = $text
    $item:B = $any
    if $any:a == $text:
        $flat
    elif $a == $text:
        $flat
    """
)

_LAST = blocks(
    """
    $any:A = $any
    $any:B = $any
    if $B:
        $block

    $int:A = $num
    $int:B = $num
    if $B:
        $block

    $int:A = $int?
    $item:B = $item.$name
    if $B:
        $flat

    $item:A = $func($any)
    $item:B = $func($any)
    if $B:
        $flat

    $item:A = $item.$name
    $int:B = $num
    if $B:
        $flat

    $item:A = $func($any)
    $item:B = $any
    if $B:
        $flat
    """
)

_OTHERS = blocks(
    """
    if $test:
        $block

    if $test:
        $block
    else:
        $block

    if $test:
        $return $any

    if $test:
        $return $any?

    if not $any:
        $return None

    if $test:
        $return True

    if not $any:
        raise ValueError($text)

    if $any and $any:b == $any:
        $block

    if $any and $any:b == $num:
        $flat

    if $any or $any:b == $num:
        $flat

    try:
        $block
    except ValueError:
        $flat

    try:
        $block
    finally:
        $item.$name()

    $func:A = lambda $short:B: $B.$name
    $list.sort(key=$A)
    """
)

BRANCHES = (*_CHAINS * 3, *_LAST * 2, *_OTHERS)

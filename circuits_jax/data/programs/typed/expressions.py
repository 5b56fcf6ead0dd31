"""Expressions of typed programs, by their kind (`typed.slots` has how idioms are written)."""

from circuits_jax.data.programs.typed.texts import by_kind, phrases

# What has no variable of its kind in scope, or is nested deeply, is one of these.
LEAVES = by_kind(
    """
    int   $num
    str   $text
    list  [$num, $num]  [$text, $text]  [$num, $num, $num]
    set   {$num, $num}  {$text, $text}
    dict  {$text: $num}
    grid  [[$num, $num], [$num, $num]]
    item  $num  $text  None
    flag  True  False
    path  $text
    lock  $func()
    any   $num
    """
)

EXPRESSIONS = by_kind(
    """
    int   $num  $num  $num  $int  $int + $num  $int - $num  $int * $num  $int + $int  $int % $few
    int   $int // $few  ($int + $int) * $num  len($list)  len($list)  len($str)  len($set)  len($dict)
    int   $list[$num]  max($list)  sum($list)  abs($int)  int($str)  min($int, $num)
    int   max($int, $int, $num)  $item.$name  $item.$name  $dict[$text]  $list.count($any)
    int   $num if $test else $num  $int if $int > $num else $num  $grid[$num][$num]
    int   $int if $test else $num  $str.find($text)  $dict.get($text, $num)  $call
    str   $text  $text  $text  $str  $str + $text  $text + $str  str($int)  $str.upper()  $str.lower()
    str   $str.replace($text, $text)  $str.rstrip()  f$quote$words {$any}$quote
    str   f$quote{$any} $words$quote  f$quote$words {$int}: {$any}$quote  f$quote{$any}{$item}$quote
    str   f$quote$words {$item.$name}$quote  $quote$words %s$quote % $any
    str   $quote%s: %s$quote % ($any, $any)  $text.join($list)  $quote$words {}$quote.format($any)
    str   $item.$name  $item.$name  $str if $test else $text  $dict[$text]  $text if $test else $text
    str   $str[$num:]  $dict.get($text, $text)  $str.title()  repr($item)
    list  []  [$num, $num, $num]  [$num, $num, $num]  [$num, $num]  [$num]  [$text, $text]  [$int, $num]
    list  [$any, $any]  [$any, $any, $any]  [$num, $num, $num, $num]  list($set)  sorted($list)
    list  sorted($set)  $list + [$num]  $list[$num:]  $list[:$num]  list($dict)  $str.splitlines()
    list  $item.$name  $item.$name  list(range($num))  $call  $list * $num  [$short:A for $A in $list]
    list  [$short:A.$name for $A in $list]  [$short:A * $num for $A in $list]
    list  [$short:A for $A in $list if $A > $num]  [$index:A for $A in range($num)]
    list  [$index:A for $A in range(len($list))]  [$index:A for $A, $short:B in enumerate($list)]
    list  [$index:A for $A, $short:B in enumerate($list) if $B]  [$index:A * $num for $A in range($int)]
    list  $func(lambda $short:A, $short:B: $A + $B, $list)
    list  sorted($list, key=lambda $short:A: $A.$name)  list(map(lambda $short:A: $A + $num, $list))
    set   set()  {$num, $num, $num}  {$num, $num, $num}  {$text, $text}  {$text, $text, $text}
    set   {$int, $num}  {$any, $any, $any}  set($list)  set($list)  {$short:A for $A in $list}
    set   {$short:A.$name for $A in $list}  set($dict)  {$any, $num, $num}
    dict  {}  {}  {$text: $num}  {$text: $num, $text: $num}  {$text: $any}  {$text: $any?}
    dict  {$text: [$num, $num]}  dict($name=$num, $name=$num)  {$short:A: $num for $A in $list}
    dict  {$index:A: $short:B for $A, $B in enumerate($list)}  {$text: {$text: $num}}
    grid  [[$num, $num], [$num, $num]]  [[$num, $num], [$num, $num]]
    grid  [[$num, $num, $num], [$num, $num, $num]]  [[$num, $num], [$num, $num], [$num, $num]]
    grid  [[$num], [$num]]  [[$num], [$num, $num]]  [[$int, $num], [$num, $int]]
    grid  [[$text, $text], [$text, $text]]  [[$any, $num], [$any, $num]]
    grid  [[$num] * $num for $index:A in range($num)]  [[$int], [$int], [$int]]  [[$text], [$num, $num]]
    grid  [[$num, $num, $num], [$num]]  [[$any, $any], [$any, $any]]
    grid  [[[$num], [$num]], [[$num], [$num]]]
    item  $item.$name  $item.$name  $func($any)  $func($any?)  $func($any, $any?)  $list[$num]
    item  $dict[$text]  $item.$name()  $item.$name($any?)  $func($name=$any?)  $call  $call
    item  $func($name=$num, $name=$num)  $func($any, $name=$any?)  $dict.get($text)  $item[$num]
    item  $func($name=$num, $name=$num, $name=$num)  $func($any, $any, $any)  $func($list)  $func()
    item  $item[$text]  $item or $any  $list.pop()  $make  $make
    flag  True  False  not $flag  $int > $num  $str == $text  $any in $list  $item is None  $any in $set
    flag  $text in $dict  isinstance($item, str)  $str.startswith($text)  bool($list)
    path  $text  $text  $text  $item.$name  $item.$name()  $func($num)  $func($any)  $func($text)
    path  f$quote$words{$any}$quote  $str + $text  $list[$num]  $item
    lock  $locker()  $locker()  $locker()  $locker()  $locker()  $locker()  $item.$name  $func()
    any   $int?  $int?  $str?  $str?  $item?  $any  $any  $list?
    """
)

TESTS = phrases(
    """
    $flag  not $flag  $last  $last  $last  $int > $num  $int < $num  $int == $num  $int >= $int
    $int % $few == $num  $str == $text  $str != $text  $str  $list  not $list  $any in $set
    $any not in $set  $any in $list  $any not in $list  $any in $dict  $item  $text in $str  $item.$name
    $item is None  $item is not None  $item.$name == $text  $any and $any:b == $any  $any and $any:b == $num
    $item.$name and $any == $text  not $item  $any or $int:b < $num  $int > $num and $any == $any
    len($list) > $num  $text not in $dict  $str.startswith($text)  $str.endswith($text)
    isinstance($item, str)  $item.$name()  $item.$name > $num  $any == $any  $any != $any
    $list and $any == $num
    """
)

"""Statements of typed programs of one line (`typed.slots` has how idioms are written)."""

from circuits_jax.data.programs.typed.texts import by_kind, phrases

DEFINITIONS = phrases(
    """
    $int:A = $num$note  $int:A = $int?$note  $int:A = $int$note  $str:A = $quote$quote
    $str:A = $str?$note  $str:A = $text$note  $list:A = []  $list:A = $list?$note  $set:A = set()
    $set:A = $set?  $set:A = {$num, $num, $num}  $list:A = [$num, $num, $num]
    $set:A = {$any, $any, $any}  $list:A = [$any, $any, $any]  $dict:A = {}  $dict:A = $dict?
    $grid:A = $grid?  $flag:A = $flag?$note  $item:A = $item?$note  $item:A = $item?$note
    $item:A = $call$note  $item:A = $make  $item:A = $item.$name$note  $int:A, $int:B = $num, $num
    $int:A, $int:B = $int, $num
    $item:A, $item:B = $list  $any:A, $any:B = $any, $any  $int:A = $int if $test else $num
    $set:A = {$num, $num, $num}$note  $set:A = {$any, $num, $num}  $item.$name = {$any, $any, $num}
    $str:A = $text if $test else $text  $item.$name = $any if $test else $num
    $int:A = $num if $test else $num  $item:A = $any if $test else $any
    $int:A = $num if $any == $any else $num  $int:A = $int$note  $list:A = $item.$name$note
    $item:A = $list[$num]$note  $list:A = reversed($list)$note  $item:A = $item.$name()$note
    $list:A = [$any, $any]$note  $int:A = $int:B = $num  $func:A = lambda $short:B, $short:C: $B + $C
    $func:A = lambda $short:B, $short:C: $B  $func:A = lambda $short:B, $short:C: $B.$name < $C.$name
    $func:A = lambda $short:B, $short:C: $B * $num  $func:A = lambda $short:B, $short:C: ($C, $B)
    $set:A = {$num, $num, $num}  $item.$name = {$num, $num, $num}
    """
)

# Of variables that are there already.
USES = by_kind(
    """
    int   $int += $num  $int += $num  $int += $int?  $int -= $num  $int *= $num  $int:a = $a + $num
    str   $str += $text  $str += $str?  $str += $item  $str += str($int)
    str   $str += $item.$name  $str:a = $a.upper()  $str:a = $a + $text
    list  $list.append($any)  $list.append($any?)  $list.append($item)  $list.extend($list?)
    list  $list.sort()  $list[$num] = $any?  $list.pop()  $list.append(($any, $any))
    list  $list.insert($num, $any)  $list.append($item.$name)  del $list[$num]
    set   $set.add($any)  $set.add($any)  $set.add($item)  $set.add($any?)  $set.add($text)
    set   $set.add($item.$name)  $set.update($list)  $set.update({$num, $num, $num})  $set.discard($any)
    dict  $dict[$text] = $any?  $dict[$str] = $any  $dict[$item] = $num  $dict[$any] = $any?
    dict  $dict[$item] += $num  $dict.update($dict?)  $dict.pop($text)  $dict[$text] = $list?
    grid  $grid.append([$num, $num])  $grid[$num][$num] = $int?  $grid.append([$any, $num])
    item  $item.$name = $any?  $item.$name = $any$note  $item.$name()  $item.$name($any?)
    item  $item.$name += $num  $item.$name($any, $any)  $item.$name($text)  $item.$name = $list?
    item  $item.$name($name=$any, $name=$num)  $item:a.$name, $a.$name = $any, $any
    flag  $flag:a = not $a  $flag = $flag?  $flag = True
    file  $str:A = $file.read()  print($any, file=$file)  $list:A = $file.readlines()
    """
)

OUTPUT = phrases(
    """
    print($text)  print($text, $any)  print($text, ($any))  print($text, ($int + $num))
    print($text, ($any))  print($text, ($item))  $func($text, ($any))  $func($any, $text, ($item))
    print($text, $any?)
    print(f$quote$words {$any}$quote)  print(f$quote{$any} {$any}$quote)
    print(f$quote$words {$any}: {$any}$quote)  print($quote$words %s: %s$quote % ($any, $any))
    print($quote%d $words$quote % $int)  print($any)  print($text, len($list))  print($list)  print($str)
    print($text, ($any), ($any))  print(f$quote$words {len($list)} $words$quote)  print($func($any))
    print($text, $func(($any)))  $func(f$quote$words {$any}$quote)  $func($text, ($any))
    $item.$name($text, ($any))  $item.$name(f$quote$words {$any}$quote)
    """
)

CALLS = phrases(
    """
    $call  $call  $call  print($call)  $func($any)  $func($any?)  $func($text)  $func($any, $text)
    $func($any, $any, $any)  $func($name=$num, $name=$num, $name=$num)  $func($name=$any?, $name=$any?)
    $func($list?)  $func($name=$any, $name=$any, $name=$any)  $item.$name($any, $any, $any)
    $func($num, $num, $num)  assert $any, $text  assert $any == $any  del $item.$name  $yield $any
    $item:A = $func($any, $any, $num)$note  $item:A = $func($name=$num, $name=$any, $name=$num)
    $item:A = $func(lambda $short:B, $short:C: $B + $C, $list)  $func({$any, $num, $num})
    $func(lambda $short:A, $short:B: $A < $B)  $func({$num, $num, $num}, $any)
    $func($name=$num, $name=$any, $name=$num)  $func($any, $any, $num)  $item:A = $func($any)$note
    """
)

"""Tasks whose answer closes what was opened (docs/tasks.md)."""

from circuits_jax.tasks.task import Task
from circuits_jax.tasks.template import skeleton

_QUOTE = """«"|'»"""
_OPEN, _CLOSE = "«[[|[»", "«]]|]»\n"

SINGLE_DOUBLE_QUOTE = Task(
    "single_double_quote",
    "close the string with the quote that opened it",
    {
        "train": (
            skeleton(f"$n0 = $d0\n$n1 = $n0\nprint({_QUOTE}$w0 $w1", f"{_QUOTE})\n"),
            skeleton(f"def $f0($n0):\n    return $n0.$f1({_QUOTE}$w0 $w1", f"{_QUOTE})\n"),
            skeleton(f"if $n0 == $n1:\n    raise ValueError({_QUOTE}$w0 $w1 $w2", f"{_QUOTE})\n"),
            skeleton(f"import $n0\n$n1 = $n0.$f0($n2, {_QUOTE}$w0", f"{_QUOTE})\n"),
            skeleton(f"$n0 = [$n1, $n2]\n$n3 = [$n0, {_QUOTE}$w0 $w1", f"{_QUOTE}]\n"),
        ),
        "heldout": (
            skeleton(f"for $n0 in $n1:\n    print($n0, {_QUOTE}$w0 $w1", f"{_QUOTE})\n"),
            skeleton(f"with $f0($n0) as $n1:\n    $n1.$f1({_QUOTE}$w0 $w1 $w2", f"{_QUOTE})\n"),
            skeleton(f"class $c0:\n    $n0 = $d0\n    $n1 = {_QUOTE}$w0 $w1", f"{_QUOTE}\n"),
        ),
    },
)

BRACKET_COUNTING = Task(
    "bracket_counting",
    "close as many brackets as are open",
    {
        "train": (
            skeleton(f"$pad\n$n0 = {_OPEN}$d0, $d1], [$d2, $d3", _CLOSE),
            skeleton(f"$n0 = $d4\n$pad\n$n1 = {_OPEN}$n0, $d0, $d1], [$d2, $d3", _CLOSE),
            skeleton(f"def $f0($n0):\n    $pad\n    $n1 = {_OPEN}$d0], [$n0, $d1", _CLOSE),
            skeleton(f"$pad\n$n0.$n1 = {_OPEN}$n2, $n3], [$n4, $n5", _CLOSE),
        ),
        "heldout": (
            skeleton(f"$pad\n$n0 += {_OPEN}$d0, $d1, $d2], [$d3, $d4", _CLOSE),
            skeleton(f"def $f0($n0, $n1):\n    $pad\n    return {_OPEN}$n0, $d0], [$n1, $d1", _CLOSE),
            skeleton(f"$pad\nif $n0:\n    $n1 = {_OPEN}$d0, $d1], [$d2, $d3, $d4", _CLOSE),
        ),
    },
)

_AFTER_CALL = "«) as $n0:\n    pass\n|)\n»"
_AFTER_CALL_INSIDE = "«) as $n0:\n        pass\n|)\n»"

WITH_AS = Task(
    "with_as",
    "after the call, a `with` goes on and an assignment ends",
    {
        "train": (
            skeleton("$n2 = $d0\n$pad\n«with|$n0 =» open($n1", _AFTER_CALL),
            skeleton("def $f0($n1):\n    $pad\n    «with|$n0 =» open($n1", _AFTER_CALL_INSIDE),
            skeleton("$pad\n$n1 = $n2\n«with|$n0 =» $f0($n1, $n3", _AFTER_CALL),
        ),
        "heldout": (
            skeleton("if $n1:\n    $pad\n    «with|$n0 =» open($n1", _AFTER_CALL_INSIDE),
            skeleton("import $n2\n$pad\n«with|$n0 =» $n2.$f0($n1", _AFTER_CALL),
        ),
    },
)

FSTRING_BRACE = Task(
    "fstring_brace",
    "close the innermost opener: the brace of an f-string or a bracket",
    {
        "train": (
            skeleton('$n1 = $d0\n$pad\nprint(«f"$w0 {|"$w0", (»$n0', '«}"|)»)\n'),
            skeleton('def $f0($n0):\n    $pad\n    return $f1(«f"$w0 {|"$w0", (»$n0', '«}"|)»)\n'),
            skeleton('$pad\n$n1.$f0(«f"$w0 $w1 {|"$w0 $w1", (»$n0', '«}"|)»)\n'),
            skeleton('if $n0:\n    $pad\n    print(«f"{$n1} {|$n1, (»$n0', '«}"|)»)\n'),
        ),
        "heldout": (
            skeleton('for $n0 in $n1:\n    $pad\n    print(«f"$w0 {|"$w0", (»$n0', '«}"|)»)\n'),
            skeleton('$n1 = $n2\n$pad\n$n3 = $f0(«f"$w0 $w1 {|"$w0 $w1", (»$n0', '«}"|)»)\n'),
            skeleton('def $f0($n0):\n    $pad\n    print(«f"$w0: {|"$w0:", (»$n0', '«}"|)»)\n'),
        ),
    },
)

_EITHER = "«[|{»", "«]|}»\n"

BRACKET_BRACE = Task(
    "bracket_brace",
    "close the list or the set that was opened",
    {
        "train": (
            skeleton(f"$pad\n$n0 = {_EITHER[0]}$d0, $d1, $d2", _EITHER[1]),
            skeleton(f"def $f0($n0):\n    $pad\n    return {_EITHER[0]}$n0, $n1, $n2", _EITHER[1]),
            skeleton(f"$n1 = $d0\n$pad\n$n0 = {_EITHER[0]}$n1, $d1, $d2", _EITHER[1]),
            skeleton(f'$pad\n$n0.$n1 = {_EITHER[0]}"$w0", $n2, $n3', _EITHER[1]),
        ),
        "heldout": (
            skeleton(f"if $n1:\n    $pad\n    $n0 = {_EITHER[0]}$d0, $d1, $d2, $d3", _EITHER[1]),
            skeleton(f"$pad\nfor $n1 in $n2:\n    $n0 = {_EITHER[0]}$n1, $n2, $d0", _EITHER[1]),
            skeleton(f"def $f0($n0):\n    $pad\n    $n1 = {_EITHER[0]}$n0, $d0, $d1", _EITHER[1]),
        ),
    },
)

WHILE_RETURN_TRUE = Task(
    "while_return_true",
    "`True` ends the header of a loop or a return statement",
    {
        "train": (
            skeleton(
                "def $f0($n0):\n    $n1 = $n0\n    $pad\n    «while|return» True", "«:\n        $f1($n1)|»\n"
            ),
            skeleton(
                "def $f0($n0, $n1):\n    $n0 = $n1\n    $pad\n    «while|return» True", "«:\n        pass|»\n"
            ),
            skeleton(
                "def $f0():\n    if $n0 == $d0:\n        $pad\n        «while|return» True",
                "«:\n            pass|»\n",
            ),
            skeleton(
                "def $f0($n0):\n    $n1 = $d0\n    $pad\n    «while|return» True", "«:\n        $n0.$f1()|»\n"
            ),
        ),
        "heldout": (
            skeleton(
                "def $f0($n0):\n    $n0.$f1($n1)\n    $pad\n    «while|return» True", "«:\n        pass|»\n"
            ),
            skeleton(
                "class $c0:\n    def $f0(self):\n        $pad\n        «while|return» True",
                "«:\n            pass|»\n",
            ),
            skeleton(
                "def $f0($n0):\n    $n0 += $d0\n    $pad\n    «while|return» True", "«:\n        $f1($n0)|»\n"
            ),
        ),
    },
)

LAMBDA_FUNC = Task(
    "lambda_func",
    "parameters end with a colon in a lambda, with a bracket in a function",
    {
        "train": (
            skeleton("$n2 = $d0\n$pad\n«$f0 = lambda |def $f0(»$n0, $n1", "«: $n0|):\n    return $n0»\n"),
            skeleton("$pad\n«$f0 = lambda |def $f0(»$n0, $n2, $n1", "«: $n0 + $n1|):\n    return $n0»\n"),
            skeleton("import $n3\n$pad\n«$f0 = lambda |def $f0(»$n0, $n1", "«: $n1|):\n    $n1 = $n0»\n"),
        ),
        "heldout": (
            skeleton(
                "if $n2:\n    $pad\n    «$f0 = lambda |def $f0(»$n0, $n1", "«: $n1|):\n        return $n1»\n"
            ),
            skeleton("$n2 = $n3\n$pad\n«$f0 = lambda |def $f0(»$n0, $n1", "«: $n2|):\n    return $n2»\n"),
        ),
    },
)

FINAL_KWARG = Task(
    "final_kwarg",
    "keep the calling style of the earlier arguments, by name or by position (preference)",
    {
        "train": (
            skeleton("$n3 = $d3\n$pad\n$f0($n0«=$d0|», $n1«=$d1|», $n2", "«=$d2)|)»\n"),
            skeleton("$pad\n$n3 = $f0($n0«=$d0|», $n1«=$d1|», $n2", "«=$d2)|)»\n"),
            skeleton("def $f0($n0):\n    $pad\n    $n0.$f1($n1«=$d1|», $n2«=$d0|», $n3", "«=$d2)|)»\n"),
            skeleton("if $n3:\n    $pad\n    $n4 = $f0($n0«=$d0|», $n1«=$d1|», $n2", "«=$d2)|)»\n"),
        ),
        "heldout": (
            skeleton("import $n3\n$pad\n$n3.$f0($n0«=$d0|», $n1«=$d1|», $n2", "«=$d2)|)»\n"),
            skeleton("for $n3 in $n4:\n    $pad\n    $f0($n0«=$d0|», $n1«=$d1|», $n2", "«=$d2)|)»\n"),
            skeleton("$n4 = $n3\n$pad\n$n4 = $f0($n0«=$n3|», $n1«=$n4|», $n2", "«=$d2)|)»\n"),
        ),
    },
    preference=True,
)

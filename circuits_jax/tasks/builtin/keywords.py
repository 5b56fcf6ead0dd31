"""Tasks whose answer goes on with the statement that a keyword began (docs/tasks.md)."""

from circuits_jax.tasks.task import Task
from circuits_jax.tasks.template import Template, skeleton

FOR_WHILE = Task(
    "for_while",
    "go on with the loop header: `for x in` or `while x <`",
    {
        "train": (
            skeleton("$n1 = $d0\n$pad\n«for|while» $n0", "« in $n2| < $n1»:\n    pass\n"),
            skeleton("def $f0($n1):\n    $pad\n    «for|while» $n0", "« in $n1| < $n1»:\n        pass\n"),
            skeleton("$pad\n$n0 = $n2.$f0($n1)\n«for|while» $n0", "« in $n1| < $n1»:\n    pass\n"),
            skeleton("if $n1 == $n2:\n    $pad\n    «for|while» $n0", "« in $n1| < $d0»:\n        pass\n"),
        ),
        "heldout": (
            skeleton(
                "import $n2\n$n1 = $n2.$f0($d0)\n$pad\n«for|while» $n0", "« in $n1| < $n1»:\n    pass\n"
            ),
            skeleton(
                "def $f0($n1, $n2):\n    $pad\n    «for|while» $n0", "« in $n1| < $n1»:\n        pass\n"
            ),
            skeleton("$n1 = $n2 + $d0\n$pad\n«for|while» $n0", "« in $n1| < $n1»:\n    pass\n"),
        ),
    },
)


def _chain(head: str, first: str, instead: str, second: str, last: str) -> Template:
    """A: two branches of a chain; B: two statements as long as the first branch, then a first branch."""
    return skeleton(
        f'{head}\n    $pad\n    «if $n0 == "$w0":\n        {first}\n    elif|$n4 = "$w0"\n    {instead}\n'
        f'    if» $n0 == "$w1":\n        {second}\n    ',
        f'«else:|elif $n0 == "$w2":»\n        {last}\n',
    )


ELSE_ELIF = Task(
    "else_elif",
    "end a chain of two branches, or go on after a first one (preference)",
    {
        "train": (
            _chain("def $f0($n0):", "$n1 = $d0", "$n5 = $n4", "$n1 = $d1", "$n1 = $d2"),
            _chain("def $f0($n0, $n1):", "$n1 = $n2", "$n5 = $n4", "return $n1", "return $n2"),
            _chain("for $n0 in $n1:", "$f0($n2)", "$f0($n4)", "$f1($n0)", "$f2($n0)"),
        ),
        "heldout": (
            _chain("def $f0($n0):", "return $n1", "$n5 = $n4", "return $n2", "return $n3"),
            _chain("while $n1:", "$n2 = $d0", "$n5 = $n4", "$n2 = $n1", "$n2 = $d2"),
        ),
    },
    preference=True,
)

IF_TERNARY = Task(
    "if_ternary",
    "an `if` inside an expression calls for `else`, a statement for a colon",
    {
        "train": (
            skeleton("$n3 = $d0\n$pad\n«$n0 = $n1 if|if» $n2", "« else $n3|:\n    pass»\n"),
            skeleton("def $f0($n1):\n    $pad\n    «$n0 = $n1 if|if» $n2", "« else $d0|:\n        pass»\n"),
            skeleton("$pad\n«$n0 = $d0 if|if» $n1 == $n2", "« else $d1|:\n    pass»\n"),
            skeleton("import $n3\n$pad\n«$n0 = $n3.$n1 if|if» $n2", "« else $d0|:\n    pass»\n"),
        ),
        "heldout": (
            skeleton("for $n1 in $n3:\n    $pad\n    «$n0 = $n1 if|if» $n2", "« else $d0|:\n        pass»\n"),
            skeleton("$n3 = $n4\n$pad\n«$n0 = $n1 if|if» $n2 < $n3", "« else $n3|:\n    pass»\n"),
            skeleton("$pad\n$n1 = $n3 + $d0\n«$n0 = $n1 if|if» $n2", "« else $n3|:\n    pass»\n"),
        ),
    },
)

IF_EQUALS = Task(
    "if_equals",
    "compare inside an `if`, assign outside",
    {
        "train": (
            skeleton("$n3 = $d0\n$pad\n«if $n0 and|$n0,» $n1", "« == $n2:\n    pass| = $n2»\n"),
            skeleton(
                "def $f0($n2):\n    $pad\n    «if $n0 and|$n0,» $n1", "« == $n2:\n        pass| = $n2»\n"
            ),
            skeleton("$pad\nimport $n2\n«if $n0 and|$n0,» $n1", "« == $n2.$n3:\n    pass| = $n2.$n3»\n"),
        ),
        "heldout": (
            skeleton(
                "for $n3 in $n2:\n    $pad\n    «if $n0 and|$n0,» $n1", "« == $n3:\n        pass| = $n3»\n"
            ),
            skeleton("$n2 = $f0($n3)\n$pad\n«if $n0 and|$n0,» $n1", "« == $n2:\n    pass| = $n2»\n"),
        ),
    },
)

INDENT_FOR = Task(
    "indent_for",
    "indent after the header of a loop, stay after an assignment",
    {
        "train": (
            skeleton(
                "def $f0($n0):\n    $pad\n    «for $n1 in $n0:|$n1 = $n0»  # $w0\n",
                "«        $f1($n1)|    return $n1»\n",
            ),
            skeleton(
                "def $f0($n0):\n    $n2 = $d0\n    $pad\n    «for $n1 in $n2:|$n1 = $n2»  # $w0 $w1\n",
                "«        $n0 = $n1|    $n0 = $n1»\n",
            ),
            skeleton(
                "def $f0():\n    $pad\n    «for $n0 in $n1.$n2:|$n0 = $n1.$n2»  # $w0\n",
                "«        $n0.$f1()|    $n0.$f1()»\n",
            ),
        ),
        "heldout": (
            skeleton(
                "def $f0($n0, $n2):\n    $pad\n    «for $n1 in $n2:|$n1 = $n2»  # $w0\n",
                "«        $n0 = $n1|    $n0 = $n1»\n",
            ),
            skeleton(
                "def $f0($n0):\n    $pad\n    «for $n1 in $f1($n0):|$n1 = $f1($n0)»  # $w0 $w1\n",
                "«        $f2($n1)|    return $n1»\n",
            ),
        ),
    },
)

ENUMERATE_RANGE = Task(
    "enumerate_range",
    "two loop variables call for `enumerate`, one for `range` (preference)",
    {
        "train": (
            skeleton("$n1 = $d0\n$pad\nfor $i0«, $n0|» in", "« enumerate($n1)| range($n1)»:\n    pass\n"),
            skeleton(
                "def $f0($n1):\n    $pad\n    for $i0«, $n0|» in",
                "« enumerate($n1)| range($n1)»:\n        pass\n",
            ),
            skeleton("$pad\n$n1.$f0($n2)\nfor $i0«, $n0|» in", "« enumerate($n1)| range($d0)»:\n    pass\n"),
            skeleton(
                "$n1 = [$d0, $d1]\n$pad\nfor $i0«, $n0|» in", "« enumerate($n1)| range($d0)»:\n    pass\n"
            ),
        ),
        "heldout": (
            skeleton(
                "if $n1:\n    $pad\n    for $i0«, $n0|» in", "« enumerate($n1)| range($n1)»:\n        pass\n"
            ),
            skeleton(
                "$n1 = $f0($n2)\n$pad\nfor $i0«, $n0|» in", "« enumerate($n1)| range($n2)»:\n    pass\n"
            ),
            skeleton(
                "import $n1\n$pad\nfor $i0«, $n0|» in", "« enumerate($n1.$n2)| range($d0)»:\n    pass\n"
            ),
        ),
    },
    preference=True,
)

_METHOD = "« __init__(self):\n        pass| wrapper():\n        return func()\n    return wrapper»\n"

CLASS_INIT = Task(
    "class_init",
    "name the first method of a class or the inner function of a decorator (preference)",
    {
        "train": (
            skeleton("import $n0\n$pad\n«class $c0|def $f0(func)»:\n    def", _METHOD),
            skeleton("$n0 = $d0\n$pad\n«class $c0|def $f0(func)»:\n    def", _METHOD),
            skeleton("$pad\n$n0 = $n1\n\n\n«class $c0|def $f0(func)»:\n    def", _METHOD),
        ),
        "heldout": (
            skeleton("from $n0 import $n1\n$pad\n«class $c0|def $f0(func)»:\n    def", _METHOD),
            skeleton("$n0 = $f1($n1)\n$pad\n«class $c0|def $f0(func)»:\n    def", _METHOD),
        ),
    },
    preference=True,
)

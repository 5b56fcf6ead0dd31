"""Tasks about the headers of loops, classes and functions (docs/tasks.md)."""

from circuits_jax.tasks.builtin.blocks import BODY, in_try, templates
from circuits_jax.tasks.task import Task
from circuits_jax.tasks.template import Template, skeleton

_LOOP = "«for|while» $n0"
_LOOP_ON = f"« in $n1| < $n1»:\n{BODY}pass\n"

# The deciding line has one form, so the blocks around it differ.
FOR_WHILE = Task(
    "for_while",
    "go on with the loop header: `for x in` or `while x <`",
    {
        "train": templates(
            _LOOP_ON,
            f"$n2 = $n3\n$n1 = $d0\n$pad\n{_LOOP}",
            f"def $f0($n1):\n    $pad\n    {_LOOP}",
            f"$pad\n$n0 = $n2.$f0($n1)\n{_LOOP}",
            f"if $n1 == $n2:\n    $pad\n    {_LOOP}",
            f"if $n2:\n    $n1 = $d0\nelse:\n    $pad\n    {_LOOP}",
            f"$n2 = $d0\n$n1 += $n2\n$pad\n{_LOOP}",
            f"while $n2:\n    $pad\n    {_LOOP}",
            f"$n1.$n2 = $d0\n$pad\n{_LOOP}",
            f"from $n2 import $n1, $n3\n$pad\n{_LOOP}",
        ),
        "select": templates(
            _LOOP_ON,
            f"class $c0:\n    $pad\n    {_LOOP}",
            f"with $f0($n1) as $n2:\n    $pad\n    {_LOOP}",
            f"def $f0($n1):\n    if $n2:\n        return $n1\n    $pad\n    {_LOOP}",
            f"$n1[$n2] = $d0\n$pad\n{_LOOP}",
            f"if not $n2:\n    $pad\n    {_LOOP}",
            f"del $n1[$n2]\n$pad\n{_LOOP}",
            f"$n1 = [$n2]\n$pad\n{_LOOP}",
            f"for $n2 in $n1:\n    $pad\n    {_LOOP}",
        ),
        "test": (
            *templates(
                _LOOP_ON,
                f"import $n2\nimport $n1\n$pad\n{_LOOP}",
                f"def $f0($n1, $n2):\n    $pad\n    {_LOOP}",
                f"$n1 = $n2 + $d0\n$pad\n{_LOOP}",
                f"for $n2 in $n1:\n    $f0($n2)\n$pad\n{_LOOP}",
                f"class $c0:\n    def $f0(self):\n        $pad\n        {_LOOP}",
            ),
            in_try(*templates(_LOOP_ON, f"$n1 = $n2\ntry:\n    $pad\n    {_LOOP}")),
        ),
    },
    patterns=(
        r"^ *for \w+ in ",
        r"^ *while \w+ < ",
    ),
)


def _indented(head: str, values: str, comment: str = "$w0", on: str = "$f9($n1)") -> Template:
    """A loop over `values`, or an assignment of them, in the function that begins with `head`."""
    return skeleton(
        f"{head}\n    $pad\n    «for $n1 in {values}:|$n1 = {values}»  # {comment}\n",
        f"«        {on}|    {on}»\n",
    )


INDENT_FOR = Task(
    "indent_for",
    "indent after the header of a loop, stay after an assignment",
    {
        "train": (
            _indented("def $f0($n0):", "$n0"),
            _indented("def $f0($n0):\n    $n2 = $d0", "reversed($n2)", "$w0 $w1", "$n0 = $n1"),
            _indented("def $f0():", "$n0.$n2", on="$n1.$f1()"),
            _indented("def $f0($n0):", "$n0[$d0]"),
            _indented("def $f0($n0):", "$n0.$f1()", "$w0 $w1", "$n2 = $n1"),
            _indented("def $f0($n0):", "[$n0, $n2]", on="return $n1"),
            _indented("def $f0($n0):", "$n0 - $n2"),
            _indented("def $f0($n0):", "$n0.$n2[$d0]", "$w0 $w1", "$n2 = $n1"),
            _indented("def $f0($n0):", "$f1($n0.$n2)", on="return $n1"),
        ),
        "select": (
            _indented("def $f0($n0):", "$n0 + $n2"),
            _indented("def $f0($n0, $n2):", "$f1($n0, $n2)", "$w0 $w1", "$n0 = $n1"),
            _indented("def $f0($n0):\n    $n2 = $d0", "$n0.$n2.$n3", on="$n1.$f1()"),
            _indented("def $f0():", "$n0, $n2", "$w0 $w1", "return $n1"),
            _indented("def $f0($n0, $n2):", "$n0 and $n2"),
            _indented("def $f0($n0):", "$n0.$n2.$f1()", on="$n2 = $n1"),
            _indented("def $f0($n0):", "$f1($n0)[$d0]", "$w0 $w1", "return $n1"),
            _indented("def $f0():", "$n0 if $n2 else $n3", on="$n1.$f1()"),
        ),
        "test": (
            _indented("def $f0($n0, $n2):", "{$n0, $n2}", on="$n0 = $n1"),
            _indented("def $f0($n0):", "$f1($n0)", "$w0 $w1", "return $n1"),
            _indented("def $f0($n0):", "$n0 or $n2"),
            _indented("def $f0($n0):", "$n0[$d0].$n2", "$w0 $w1", "$n1.$f1()"),
            _indented("def $f0($n0, $n2):", "$n0.$f1($n2)", on="$n2 = $n1"),
            _indented("def $f0($n0):\n    $n2 = $d0", "$n0 * $n2"),
        ),
    },
    patterns=(
        r"^ +for .+:  # .+$",
        r"^ +[\w.]+ = .+  # .+$",
    ),
)

_EACH = "for $i0«, $n0|» in"
_RANGE = f"« enumerate($n1)| range($n1)»:\n{BODY}pass\n"

# The deciding line of a loop has one form, so the blocks around it differ, and some are comprehensions.
ENUMERATE_RANGE = Task(
    "enumerate_range",
    "two loop variables call for `enumerate`, one for `range` (preference)",
    {
        "train": (
            *templates(
                _RANGE,
                f"$n1 = $d0\n$pad\n{_EACH}",
                f"def $f0($n1):\n    $pad\n    {_EACH}",
                f"while $n1:\n    $pad\n    {_EACH}",
                f"if $n1 == $n2:\n    $pad\n    {_EACH}",
                f"$n1 = $n2 - $d0\n$pad\n{_EACH}",
            ),
            *templates(
                f"« enumerate($n1)| range($d0)»:\n{BODY}pass\n",
                f"$pad\n$n1.$f0($n2)\n{_EACH}",
                f"$n1 = [$d0, $d1]\n$pad\n{_EACH}",
            ),
            *templates("« enumerate($n1)]| range($d0)]»\n", f"$n1 = $n2.$n3\n$pad\n$n4 = [$i0 {_EACH}"),
            *templates("« enumerate($n1))| range($d0))»\n", f"$n1 = $n2[$d1]\n$pad\n$n4 = $f0($i0 {_EACH}"),
        ),
        "select": (
            *templates(
                _RANGE,
                f"with $f0() as $n1:\n    $pad\n    {_EACH}",
                f"for $n1 in $n2:\n    $pad\n    {_EACH}",
                f"$n1.$n2 = $d0\n$pad\n{_EACH}",
                f"from $n2 import $n1\n$pad\n{_EACH}",
                f"if not $n1:\n    $pad\n    {_EACH}",
                f"if $n2:\n    $n1 = $d0\nelse:\n    $pad\n    {_EACH}",
            ),
            *templates(
                "« enumerate($n1)]| range($n1)]»\n", f"def $f0($n1, $n2):\n    $pad\n    return [$i0 {_EACH}"
            ),
            *templates(
                "« enumerate($n1)}| range($n1)}»\n", f"$n1 = ($n2, $n3)\n$pad\n$n4 = {{$i0: $n2 {_EACH}"
            ),
        ),
        "test": (
            *templates(
                _RANGE,
                f"if $n1:\n    $pad\n    {_EACH}",
                f"$n1 = $f0($n2)\n$pad\n{_EACH}",
                f"class $c0:\n    def $f0(self, $n1):\n        $pad\n        {_EACH}",
            ),
            *templates(f"« enumerate($n1.$n2)| range($d0)»:\n{BODY}pass\n", f"import $n1\n$pad\n{_EACH}"),
            *templates("« enumerate($n1))| range($n1))»\n", f"$n1 += $d0\n$pad\n$f0($i0 {_EACH}"),
            *templates("« enumerate($n1)}| range($n1)}»\n", f"$n1 = $n2 or $n3\n$pad\n$n4 = {{$i0 {_EACH}"),
        ),
    },
    preference=True,
    patterns=(
        r"\bfor \w+, \w+ in enumerate\(",
        r"\bfor \w+ in range\(",
    ),
)


def _method(head: str, opens: str, before: str = "") -> Template:
    """A class or a decorator after `head`, up to its first `def`.

    Args:
      head: Lines before it; the last one, if indented, gives its depth.
      opens: Its first line, which differs.
      before: A statement that stands before the `def`.
    """
    line = head.rpartition("\n")[2]
    indent = line[: len(line) - len(line.lstrip())]
    inner = indent + "    "
    stands = f"{inner}{before}\n\n" if before else ""
    return skeleton(
        f"{head}\n{indent}{opens}:\n{stands}{inner}def",
        f"« __init__(self):\n{inner}    pass| wrapper():\n{inner}    return func()\n{inner}return wrapper»\n",
    )


_PLAIN = "«class $c0|def $f0(func)»"

CLASS_INIT = Task(
    "class_init",
    "name the first method of a class or the inner function of a decorator (preference)",
    {
        "train": (
            _method("import $n0\n$pad", _PLAIN),
            _method("$n0 = $d0\n$pad", _PLAIN, '"""$w0."""'),
            _method("$pad\n$n0.$n1 = $n2\n\n", _PLAIN, "$n3 = [$d0]"),
            _method("from $n0 import $c1\n$pad", "«class $c0($c1)|def $f0(func)»"),
            _method("$n0 = $n1\n$pad", "«class $c0($n0)|def $f0(func, $n0)»"),
            _method("if $n0:\n    $pad", _PLAIN),
            _method("if $n0 == $n1:\n    $pad", "«class $c0($c1, $c2)|def $f0(func, $n1, $n2)»"),
            _method("$n0.$f1()\n$pad", _PLAIN, "$n1 = $n0[$d0]"),
            _method("$n0, $n1 = $n2\n$pad", _PLAIN, '$n3 = "$w0", $d0'),
        ),
        "select": (
            _method("$n0 = $d0\n\n\n$pad\n@$f1", _PLAIN, '"""$w0 $w1."""'),
            _method("$n0 += $d0\n$pad", _PLAIN, "$n1 = $n0.$n2"),
            _method("$n0 = [$n1]\n$pad", _PLAIN, "$n1 = $d0"),
            _method("assert $n0\n$pad", "«class $c0(object)|def $f0(func=$n0)»"),
            _method("$n0.$f1($d0)\n$pad", _PLAIN, "$n1 = not $n0"),
            _method("with $n0:\n    $pad", "«class $c0($n0.$f1())|def $f0(func, **$n1)»"),
            _method("for $n0 in $n1:\n    $pad", _PLAIN, "$n2 = {}"),
            _method("$n0 = $n1 or $d0\n$pad", _PLAIN, "$n2, $n3 = $n0"),
        ),
        "test": (
            _method("from $n0 import $n1\n$pad", "«class $c0($n0.$n1)|def $f0(func, $n1=$n0)»"),
            _method("$n0 = $f1($n1)\n$pad", "«class $c0()|def $f0(func, *$n1)»"),
            _method("$n0[$n1] = $d0\n$pad", _PLAIN, "$n1 = []"),
            _method("del $n0\n$pad", _PLAIN, "$n1 = $f1()"),
            _method("$n0 = $n1 + $d0\n$pad", _PLAIN, '$n2 = "$w0"'),
            _method("def $f1($n0):\n    return $n0\n\n\n# $w0 $w1\n$pad", _PLAIN, "$n1: int = $d0"),
        ),
    },
    preference=True,
    patterns=(
        r"^ *class .*:\n(?=(?:(?! *(?:def|class) ).*\n)*? +def __init__\()",
        r"^ *def \w+\(func\b.*:\n(?=(?:(?! *def ).*\n)*? +def wrapper\()",
    ),
)

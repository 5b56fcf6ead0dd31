"""Tasks about conditions: chains of them, conditional expressions, comparisons (docs/tasks.md)."""

from circuits_jax.tasks.builtin.blocks import BODY, templates
from circuits_jax.tasks.task import Task
from circuits_jax.tasks.template import Template, skeleton


def _chain(head: str, tests: str, plain: str, statements: str) -> Template:
    """A: two branches of a chain; B: two statements as long as the first branch, then a first branch.

    Args:
      head: What the chain stands in, at the margin.
      tests: Of the branches; `#` stands for what differs between them.
      plain: B's first statement; `#` as in A's first test.
      statements: A's first branch, B's second statement, the branch of both, and the one after; `;` between.
    """
    one, two, three = (tests.replace("#", number) for number in "678")
    first, instead, second, last = statements.split("; ")
    a = f"if {one}:\n        {first}\n    elif"
    b = f"{plain.replace('#', '6')}\n    {instead}\n    if"
    return skeleton(
        f"{head}\n    $pad\n    «{a}|{b}» {two}:\n        {second}\n    ",
        f"«else:|elif {three}:»\n        {last}\n",
    )


_EQUAL, _SET_TO = '$n0 == "$w#"', '$n4 = "$w#"'

ELSE_ELIF = Task(
    "else_elif",
    "end a chain of two branches, or go on after a first one (preference)",
    {
        "train": (
            _chain("def $f0($n0):", _EQUAL, _SET_TO, "$n1 = $d0; $n5 = $n4; $n1 = $d1; $n1 = $d2"),
            _chain("def $f0($n0, $n1):", _EQUAL, _SET_TO, "$n1 = $n2; $n5 = $n4; return $n1; return $n2"),
            _chain("for $n0 in $n1:", _EQUAL, _SET_TO, "$f0($n2); $f0($n4); $f1($n0); $f2($n0)"),
            _chain("while $n0:", '$n0.$n1 == "$w#"', _SET_TO, "$n2 = $n0; $n3 = $n4; $n2 = $d0; $n2 = $d1"),
            _chain("if $n1:", _EQUAL, _SET_TO, "$n2.$f0(); $n3.$f0(); $n2.$f1(); $n2.$f2()"),
            _chain(
                "with $f0($n1) as $n2:",
                _EQUAL,
                _SET_TO,
                "$n2.$n3 = $d0; $n2.$n3 = $n4; $n2.$n3 = $d1; $n2.$n3 = $d2",
            ),
            _chain(
                "for $n2, $n0 in $n1:",
                _EQUAL,
                _SET_TO,
                "$n3[$n2] = $d0; $n3[$n2] = $n4; $n3[$n2] = $d1; $n3[$n2] = $d2",
            ),
            _chain("def $f0($n0, $n1, $n2):", _EQUAL, _SET_TO, "yield $n1; yield $n4; yield $n2; yield $n3"),
            _chain("while $n1:", _EQUAL, _SET_TO, "$n2 += $d0; $n2 += $n4; $n2 += $d1; $n2 += $d2"),
        ),
        "select": (
            _chain(
                "def $f0($n0):",
                '$n0[$d0] == "$w#"',
                '$n4[$d0] = "$w#"',
                "return $d1; $f1($n4); return $d2; return $d3",
            ),
            _chain(
                "for $n0 in $n1:",
                '$n0[$n2] == "$w#"',
                '$n4[$n2] = "$w#"',
                "$n1 += $d1; $n3 += $d1; $n1 += $d2; $n1 += $d3",
            ),
            _chain(
                "while $n0:",
                '$f0($n0) == "$w#"',
                '$n4 = $f0("$w#")',
                "break; $n5 = $n4; continue; return",
            ),
            _chain(
                "if $n1:",
                '$f0($n0) == "$w#"',
                '$n4 = $f0("$w#")',
                "$n2[$d0] = $n0; $n2[$d0] = $n4; $n2[$d1] = $n0; $n2[$d2] = $n0",
            ),
            _chain(
                "for $n0 in $n1:",
                '$n0.$n3 == "$w#"',
                '$n4.$n3 = "$w#"',
                "$n2.$f0($d1); $n2.$f0($n4); $n2.$f0($d2); $n2.$f0($d3)",
            ),
            _chain(
                "with $f0() as $n0:", "$n0 > $d#", "$n4 = $d#", "$n1 = $d0; $n5 = $n4; $n1 = $n2; $n1 = $n3"
            ),
            _chain(
                "def $f0($n0, $n1):",
                "$n0 == $n#",
                "$n4 = $n#",
                "return $d0; $n5 = $n4; return $d1; return $d2",
            ),
            _chain(
                "while $n0:",
                "$f1($n0, $d#)",
                "$f1($n4, $d#)",
                "$n2.$n3 = $d0; $n2.$n3 = $n4; $n2.$n3 = $d1; $n2.$n3 = $d2",
            ),
        ),
        "test": (
            _chain(
                "def $f0($n0):",
                '$n0.$f1() == "$w#"',
                '$n4 = $n0.$f1("$w#")',
                "return $n1; $n5 = $n4; return $n2; return $n3",
            ),
            _chain(
                "while $n1:",
                '"$w#" == $n0',
                '"$w#" in $n4',
                "$n2 = $d0; $n5 = $n4; $n2 = $n1; $n2 = $d2",
            ),
            _chain(
                "for $n0 in $n1:",
                "$n0 == $d#",
                "$n4 = $d#",
                "$n2[$n0] = $n3; $n5 = $n4; del $n2[$n0]; $f0($n2)",
            ),
            _chain(
                "def $f0(self, $n0):",
                "$n0 in self.$n#",
                "$n4 = self.$n#",
                "self.$f1($n0); self.$f1($n4); self.$f2($n0); raise ValueError($n0)",
            ),
            _chain(
                "with $n1:",
                '$n0 != "$w#"',
                '$n4 += "$w#"',
                'print($n0); print($n4); print("$w1"); print("$w2")',
            ),
            _chain("if not $n1:", "$n0 is $n#", "$n4 = $n#", "yield $n0; yield $n4; yield $n1; yield $n2"),
        ),
    },
    preference=True,
    patterns=(
        r"^( *)elif .*\n(?=(?:\1 .*\n)+\1else:)",
        r"^( *)if .*\n(?=(?:\1 .*\n)+\1elif )",
    ),
)

IF_TERNARY = Task(
    "if_ternary",
    "an `if` inside an expression calls for `else`, a statement for a colon",
    {
        "train": (
            *templates(
                f"« else $d0|:\n{BODY}pass»\n",
                "$n3 = $d1\n$pad\n«$n0 = $n1 if|if» $n2",
                "def $f0($n1):\n    $pad\n    «$n0 = $n1 + $d1 if|if» $n2",
                "import $n3\n$pad\n«$n0 = $n3.$n1 if|if» $n2",
                "while $n3:\n    $pad\n    «$n0.$n1 = $n2 if|if» $n3",
                "with $n3:\n    $pad\n    «$n0 = not $n1 if|if» $n2.$n3",
                "$n1 = [$n3]\n$pad\n«$n0[$d1] = $n1 if|if» $n2",
                "for $n3 in $n1:\n    $pad\n    «$n0 = $f0($n3) if|if» $n2 > $n3",
            ),
            *templates(
                f"« else $d1|:\n{BODY}pass»\n",
                "$pad\n«$n0 = $d0 if|if» $n1 == $n2",
                "def $f0($n1, $n2):\n    $pad\n    «return $n1 if|if» $n2",
            ),
        ),
        "select": templates(
            f"« else $d0|:\n{BODY}pass»\n",
            "with $f0($n1) as $n3:\n    $pad\n    «$n0 += $n1 if|if» not $n3",
            "$n3.$f0()\n$pad\n«$n0 = $n1[$n3] if|if» $n2.$n3",
            "class $c0:\n    $pad\n    «$n0 = $n1, $n2 if|if» $n2 and $n3",
            "def $f0($n1):\n    $pad\n    «yield $n1 if|if» $n2 in $n1",
            "if not $n3:\n    $pad\n    «$n0 = $n1.$f0($d1) if|if» $n2 != $n3",
            "$n3 += $d1\n$pad\n«$n0 = $n1 - $n3 if|if» $n1 >= $n2",
            "def $f0(self):\n    $pad\n    «return self.$n1 if|if» self.$n2",
            "$n1, $n3 = $n4\n$pad\n«$n0 = $n1 or $n3 if|if» $n2 not in $n4",
        ),
        "test": templates(
            f"« else $n3|:\n{BODY}pass»\n",
            "for $n1 in $n3:\n    $pad\n    «$n0[$n1] = $n1 if|if» $n2",
            "$n3 = $n4\n$pad\n«$n0 = $n1 if|if» $n2 < $n3",
            "$n1 = $n3 + $d0\n$pad\n«$n0 = $n1 * $n3 if|if» $n2",
            "if $n3:\n    $pad\n    «$n0 = $f0($n1) if|if» $n2 is $n3",
            "class $c0:\n    def $f0(self, $n1):\n        $pad\n        «self.$n0 = $n1 if|if» $n1.$n2",
            "assert $n1\n$pad\n«$n0 = [$n1] if|if» $n2 or $n3",
        ),
    },
    patterns=(
        r"\S if [^:\n]+ else ",
        r"^ *if [^:\n]+:$",
    ),
)

_COMPARE = f"« == $n2:\n{BODY}pass| = $n2»\n"

IF_EQUALS = Task(
    "if_equals",
    "compare inside an `if`, assign outside",
    {
        "train": (
            *templates(
                _COMPARE,
                "$n3 = $d0\n$pad\n«if $n0 and|$n0,» $n1",
                "def $f0($n2):\n    $pad\n    «if $n0 and $n3 and|$n0, $n3,» $n1",
                "if $n2:\n    $pad\n    «if $n0.$n3 and|$n0.$n3,» $n1",
                "while $n2:\n    $pad\n    «if $n0 or|$n0,» $n1",
                "$n2 = $n3.$n4\n$pad\n«if $n0 and|$n0,» $n2.$n1",
                "with $n2:\n    $pad\n    «if $n0.$f0() and|$n0.$n3,» $n1",
                "$n2[$d0] = $n3\n$pad\n«while $n0 or|$n0,» $n1.$n3",
                "if $n2 == $n3:\n    $pad\n    «if $n0 in $n3 and|$n0, $n3,» $n1",
            ),
            *templates(
                f"« == $n2.$n3:\n{BODY}pass| = $n2.$n3»\n", "$pad\nimport $n2\n«if $n0 > $d0 and|$n0,» $n1"
            ),
        ),
        "select": templates(
            _COMPARE,
            "with $f0() as $n2:\n    $pad\n    «if $n0[$d0] and|$n0[$d0],» $n1",
            "class $c0:\n    $pad\n    «while $n0 and|$n0,» $n1",
            "$n2.$f0()\n$pad\n«if $n0 is $n3 and|$n0, $n3,» $n1",
            "$n2 = [$d0]\n$pad\n«if $f0($n0) and|$n0,» $n1",
            "if not $n2:\n    $pad\n    «if $n0 != $d0 and|$n0[$d0],» $n1",
            "for $n3, $n2 in $n4:\n    $pad\n    «if $n0 or not $n3 and|$n0, $n3,» $n1",
            "$n2 += $d0\n$pad\n«if $f0($n0, $n3) and|$n0, $n3,» $n1",
            "$n2 = $n4[$d1]\n$pad\n«if $n0 <= $d0 and|$n0.$n3,» $n1",
        ),
        "test": (
            *templates(
                _COMPARE,
                "for $n3 in $n2:\n    $pad\n    «if $n3 or $n0 and|$n3, $n0,» $n1",
                "$n2 = $f0($n3)\n$pad\n«if not $n0 and|$n0,» $n1",
                "class $c0:\n    def $f0(self, $n2):\n        $pad\n        «if self.$n0 and|self.$n0,» $n1",
                "$n0 = $n3 = $d0\n$pad\n«if $n0 < $n3 and|$n0, $n3,» $n1",
            ),
            *templates(
                "« == $n2| = $n2»\n",
                "if $n2:\n    $n3 = $d0\nelse:\n    $pad\n    «assert $n0 and|$n0,» $n1",
                "def $f0($n2, $n3):\n    $pad\n    «return $n0 and|$n0,» $n1",
            ),
        ),
    },
    patterns=(
        r"^ *if .+ (?:and|or) [\w.]+ == ",
        r"^ *[\w.]+(?:, [\w.]+)+ = ",
    ),
)

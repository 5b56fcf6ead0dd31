"""Tasks whose answer depends on a variable: its type, its name or when it was set (docs/tasks.md)."""

from circuits_jax.tasks.builtin.blocks import templates
from circuits_jax.tasks.task import Task
from circuits_jax.tasks.template import Template, skeleton

_SET = '«set()|""»'
_USE = "«.add($n1)| += $n1»\n"
_SET_OR_STRING = {
    "train": templates(
        _USE,
        f"$pad\n$n0 = {_SET}\nfor $n1 in $n2:\n    $n0",
        f"def $f0($n1):\n    $pad\n    $n0 = {_SET}\n    if $n1:\n        $n0",
        f"$pad\n$n0 = {_SET}\n$n2 = $d0\nwhile $n1:\n    $n0",
        f"$pad\n$n0 = {_SET}\nfor $n1 in $n2:\n    if $n1.$n3:\n        $n0",
        f"$n1 = $d0\n$pad\n$n0 = {_SET}\nif not $n1:\n    $n0",
        f"class $c0:\n    $pad\n    $n0 = {_SET}\n    for $n1 in $f0():\n        $n0",
        f"from $n3 import $n2\n$pad\n$n0 = {_SET}\nfor $n1 in $n2.$n3:\n    $n0",
        f"def $f0(self, $n2):\n    $pad\n    $n0 = {_SET}\n    while $n1 < $n2:\n        $n0",
        f"$n2 += $d0\n$pad\n$n0 = {_SET}\nif $n1 or $n2:\n    $n0",
    ),
    "select": templates(
        _USE,
        f"if $n2:\n    $pad\n    $n0 = {_SET}\n    for $n1 in $n2.$f0():\n        $n0",
        f"import $n2\n$pad\n$n0 = {_SET}\nwith $n2.$f0() as $n1:\n    $n0",
        f"def $f0():\n    $pad\n    $n0 = {_SET}\n    while $f1():\n        $n0",
        f"$n2.$f0()\n$pad\n$n0 = {_SET}\nfor $i0, $n1 in $n2:\n    $n0",
        f"$n2.$n3 = $d0\n$pad\n$n0 = {_SET}\nif $n1 is $n2:\n    $n0",
        f"with $n2:\n    $pad\n    $n0 = {_SET}\n    for $n1 in $f0($n3):\n        $n0",
        f"$n2 = $n3.$n4\n$pad\n$n0 = {_SET}\nwhile not $n1:\n    $n0",
        f"def $f0(self):\n    $pad\n    $n0 = {_SET}\n    for $n1 in self.$n2:\n        $n0",
    ),
    "test": templates(
        _USE,
        f"$n3 = [$n2]\n$pad\n$n0 = {_SET}\nfor $n1 in [$n3]:\n    $n0",
        f"def $f0($n2, $n3):\n    $pad\n    $n0 = {_SET}\n    for $n1 in $n2[$n3]:\n        $n0",
        f"$n1 = $f0($n2)\n$pad\n$n0 = {_SET}\nif $n1 == $n2:\n    $n0",
        f"while $n2:\n    $pad\n    $n0 = {_SET}\n    if $n1 in $n2:\n        $n0",
        f"for $n1 in $n2:\n    $pad\n    $n0 = {_SET}\n    if $n1 and $n3:\n        $n0",
        f"with $f0($n2) as $n3:\n    $pad\n    $n0 = {_SET}\n    for $n1 in sorted($n3):\n        $n0",
    ),
}


def _with_name(template: Template, slot: str, name: str) -> Template:
    """`template` with one slot spelled out."""
    a, b = (prompt.replace(slot, name) for prompt in template.prompts)
    c, d = (after.replace(slot, name) for after in template.continuations)
    return Template((a, b), (c, d))


def _begun_and_used(name: str) -> tuple[str, str]:
    """Patterns of sets that are added to somewhere after they are made, and of strings that are extended."""
    return (
        rf"^ *({name}) = set\(\)\n(?=(?:.*\n)*? *\1\.add\()",
        rf"""^ *({name}) = (?:""|'')\n(?=(?:.*\n)*? *\1 \+= )""",
    )


SET_OR_STRING = Task(
    "set_or_string",
    "remember a variable's type: a set is added to, a string extended (preference)",
    _SET_OR_STRING,
    preference=True,
    patterns=_begun_and_used(r"[\w.]+"),
)

SET_OR_STRING_FIXEDVARNAME = Task(
    "set_or_string_fixedvarname",
    "remember the type of a variable that is always called `current` (preference)",
    {
        split: tuple(_with_name(template, "$n0", "current") for template in found)
        for split, found in _SET_OR_STRING.items()
    },
    preference=True,
    patterns=_begun_and_used("current"),
)


def _both_orders(head: str, one: str, other: str, tail: str, after: str) -> Template:
    """A: line `one`, then line `other`; B: the other way round.  `head` ends with the lines' indent."""
    line_break = "\n" + head.rpartition("\n")[2]
    return skeleton(f"{head}«{one}{line_break}{other}|{other}{line_break}{one}»{line_break}{tail}", after)


_LOCKED = r"^ *([\w.]+) = [\w.]*\bLock\(\)\n"


def _open_or_lock(head: str, lock: str, path: str) -> Template:
    after = "« open($n1) as $n2| $n0»:\n            pass\n"
    return _both_orders(head, lock, path, "with", after)


WITH_OPEN = Task(
    "with_open",
    "open the file or take the lock, whichever was defined last (preference)",
    {
        "train": (
            _open_or_lock("", "$n0 = Lock()", '$n1 = "$w0"'),
            _open_or_lock("def $f0():\n    ", "$n0 = Lock()", "$n1 = $f1($d0)"),
            _open_or_lock("import $n3\n", "$n0 = $n3.Lock()", '$n1 = "$w0 $w1"'),
            _open_or_lock("def $f0($n3):\n    ", "$n0 = Lock()", "$n1 = $n3.$n4"),
            _open_or_lock("for $n3 in $n4:\n    ", "$n0 = $n3.Lock()", "$n1 = $n3"),
            _open_or_lock("while $n3:\n    ", "$n0 = Lock()", "$n1 = $n3.$f0()"),
            _open_or_lock("with $n3:\n    ", "$n0 = Lock()", "$n1 = $f0($n3, $n4)"),
            _open_or_lock("from $n3 import $n4\n", "$n0 = Lock()", "$n1 = str($n4)"),
            _open_or_lock("if not $n3:\n    ", "$n0 = $n4.Lock()", "$n1 = $n3 + $n4"),
        ),
        "select": (
            _open_or_lock("if $n3:\n    ", "$n0 = $n3 or Lock()", '$n1 = $n3 or "$w0"'),
            _open_or_lock("class $c0:\n    ", "$n0 = $f0(Lock)", '$n1 = $f0("$w0")'),
            _open_or_lock("$n3 = [$d0]\n", "$n0 = $n3 = Lock()", '$n1 = $n4 = "$w0"'),
            _open_or_lock("import $n3\n", "$n0: $n3.Lock = Lock()", '$n1: str = "$w0"'),
            _open_or_lock("for $n3 in $n4:\n    ", "$n0 = $n3.$f0(Lock)", '$n1 = $n3.$f0("$w0")'),
            _open_or_lock("def $f0(self):\n    ", "$n0 = $n3 and Lock()", '$n1 = $n3 and "$w0"'),
            _open_or_lock("$n3 += $d0\n", "$n0 = Lock($n3)", '$n1 = "$w0" + $n3'),
            _open_or_lock("with $f1($n4) as $n3:\n    ", "$n0 = $f0($n3, Lock)", '$n1 = $f0($n3, "$w0")'),
        ),
        "test": (
            _open_or_lock("if $n3 == $n4:\n    ", "$n0 = RLock()", '$n1 = $n3 + "$w0"'),
            _open_or_lock("$n3 = $n4\n", "$n0 = Lock() if $n3 else $n4", '$n1 = "$w0" if $n3 else $n4'),
            _open_or_lock("for $n3, $n4 in $f0():\n    ", "$n0 = $n3.RLock()", "$n1 = $n3[$d0]"),
            _open_or_lock("def $f0($n3, $n4):\n    ", "$n0 = $n3.$n4.Lock()", "$n1 = $n3 / $n4"),
            _open_or_lock("with $f0() as $n3:\n    ", "$n0 = Semaphore($d0)", '$n1 = $n3["$w0"]'),
            _open_or_lock("if $n3:\n    $n4 = $d0\nelse:\n    ", "$n0 = Condition()", '$n1 = "$w0" % $n3'),
        ),
    },
    preference=True,
    patterns=(
        rf"{_LOCKED}(?=(?:.*\n)*? *with open\()",
        rf"{_LOCKED}(?=(?:.*\n)*? *with \1:)",
    ),
)

_SWAP = "«$n0, $n1 = $n1|$n1, $n0 = $n0»,"

# The deciding line has one form, so the blocks around it differ.
VAR_SWAP = Task(
    "var_swap",
    "finish a swap with the other variable",
    {
        "train": templates(
            "« $n0| $n1»\n",
            f"$n0 = $d0\n$n1 = $d1\n{_SWAP}",
            f"def $f0($n0, $n1):\n    {_SWAP}",
            f"$n0 = $n2\n$n1 = $n3\nif $n0 < $n1:\n    {_SWAP}",
            f"$n0, $n1 = $d0, $d1\n{_SWAP}",
            f"$n0 = $n1 = $d0\nwhile $n0 < $n2:\n    {_SWAP}",
            f"$n0, $n1 = $n2\nfor $n3 in $n2:\n    {_SWAP}",
            f"$n0, $n1 = $n2\nif $n0 and $n1:\n    {_SWAP}",
            f"$n0 = $n2.$n3\n$n1 = $n2.$n4\n{_SWAP}",
            f"$n2 = $n0, $n1\nwhile $n0:\n    {_SWAP}",
        ),
        "select": templates(
            "« $n0| $n1»\n",
            f"$n0, $n1 = $n2\nwith $f0():\n    {_SWAP}",
            f"def $f0($n0, $n1, $n2):\n    {_SWAP}",
            f"if $n0 == $n1:\n    $n2 = $n0\nelse:\n    {_SWAP}",
            f"$n0, $n1 = $f0($n2)\n$n2.$f1($n0)\n{_SWAP}",
            f"for $n0, $n1, $n2 in $n3:\n    {_SWAP}",
            f"$n0 = $n1 = $n2\n{_SWAP}",
            f"$n0, $n1 = $n2\nif $n0 is $n1:\n    {_SWAP}",
            f"def $f0($n0, $n1=$d0):\n    {_SWAP}",
        ),
        "test": templates(
            "« $n0| $n1»\n",
            f"for $n0, $n1 in $n2:\n    {_SWAP}",
            f"$n0 = $f0($n2)\n$n1 = $f0($n3)\n{_SWAP}",
            f"def $f0($n0):\n    $n1 = [$n0]\n    {_SWAP}",
            f"$n0 = $n2[$d0]\n$n1 = $n2[$d1]\nif not $n0:\n    {_SWAP}",
            f"class $c0:\n    def $f0(self, $n0, $n1):\n        {_SWAP}",
            f"$n0, $n1 = $n2\nwhile True:\n    {_SWAP}",
        ),
    },
    patterns=(r"^ *([\w.]+), ([\w.]+) = \2, \1\b",),
)


def _assigned(head: str, one: str, other: str) -> Template:
    return _both_orders(head, one, other, "if", "« $n1| $n0»:\n            pass\n")


VAR_IF = Task(
    "var_if",
    "test the variable assigned last, of two (preference)",
    {
        "train": (
            _assigned("import $n2\n", "$n0 = $n2", "$n1 = $n3"),
            _assigned("def $f0($n2):\n    ", "$n0 = $d0", "$n1 = $d1"),
            _assigned("", "$n0 = $f0($n2)", "$n1 = $f1($n3)"),
            _assigned("while $n2:\n    ", "$n0 = $n2.$n3", "$n1 = $d0"),
            _assigned("if $n2:\n    ", "$n0 = $f0()", "$n1 = $n2"),
            _assigned("for $n2 in $n3:\n    ", "$n0 = $n2", "$n1 = $f0($n2)"),
            _assigned("with $n2:\n    ", "$n0 = [$n2]", "$n1 = [$n3]"),
            _assigned("$n2 += $d0\n", "$n0 = $n2 - $d1", "$n1 = $n3 - $d2"),
            _assigned("def $f0(self):\n    ", "$n0 = $n2 and $n3", "$n1 = $n3 and $n2"),
        ),
        "select": (
            _assigned("class $c0:\n    ", "$n0 = $n2[$d0]", "$n1 = $n2[$d1]"),
            _assigned("with $f0() as $n2:\n    ", "$n0 = $n2 + $d0", "$n1 = $n2 + $n3"),
            _assigned("$n2.$f0()\n", "$n0 = not $n2", "$n1 = not $n3"),
            _assigned("def $f0($n2, $n3):\n    ", '$n0 = "$w0"', '$n1 = "$w1"'),
            _assigned("for $n2 in $n3:\n    ", "$n0 = $n2 in $n3", "$n1 = $n3 in $n2"),
            _assigned("if $n2 == $n3:\n    ", "$n0 = $n2.$n3.$n4", "$n1 = $n3.$n2.$n4"),
            _assigned("$n2 = [$n3]\n", "$n0 = $f0($n2, $d0)", "$n1 = $f1($n2, $d1)"),
            _assigned("if $n2:\n    ", "$n0 = $n2 * $d0", "$n1 = $n3 * $d1"),
        ),
        "test": (
            _assigned("for $n2, $n3 in $f0():\n    ", "$n0 = $n2 or $d0", "$n1 = $n3 or $d1"),
            _assigned("import $n2\n", "$n0 = $n2.$f0($d0)", "$n1 = $n2.$f1($d1)"),
            _assigned("while $n2 < $n3:\n    ", "$n0 = $n2 == $d0", "$n1 = $n3 == $d1"),
            _assigned("$n2 = {$d0}\n", "$n0 = $n2.$f0()", "$n1 = $n2.$f1()"),
            _assigned("class $c0:\n    def $f0(self):\n        ", "$n0 = self.$n2", "$n1 = self.$n3"),
            _assigned("if not $n2:\n    ", "$n0 = len($n2)", "$n1 = len($n3)"),
        ),
    },
    preference=True,
    patterns=(r"^ *[\w.]+ = .*\n *([\w.]+) = .*\n *if \1:",),
)

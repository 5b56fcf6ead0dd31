"""Tasks whose answer depends on a variable: its type, its name or when it was set (docs/tasks.md)."""

from circuits_jax.tasks.task import Task
from circuits_jax.tasks.template import Template, skeleton

_SET = '«set()|""»'
_USE = "«.add($n1)| += $n1»\n"
_SET_OR_STRING = {
    "train": (
        skeleton(f"$pad\n$n0 = {_SET}\nfor $n1 in $n2:\n    $n0", _USE),
        skeleton(f"def $f0($n1):\n    $pad\n    $n0 = {_SET}\n    if $n1:\n        $n0", _USE),
        skeleton(f"$pad\n$n0 = {_SET}\n$n2 = $d0\nwhile $n1:\n    $n0", _USE),
        skeleton(f"$pad\n$n0 = {_SET}\nfor $n1 in $n2:\n    if $n1:\n        $n0", _USE),
    ),
    "heldout": (
        skeleton(f"$pad\n$n0 = {_SET}\n$n3 = $n2\nfor $n1 in $n3:\n    $n0", _USE),
        skeleton(f"def $f0($n2):\n    $pad\n    $n0 = {_SET}\n    for $n1 in $n2:\n        $n0", _USE),
        skeleton(f"$n1 = $d0\n$pad\n$n0 = {_SET}\nif $n1 == $n2:\n    $n0", _USE),
    ),
}


def _with_name(template: Template, slot: str, name: str) -> Template:
    """`template` with one slot spelled out."""
    a, b = (prompt.replace(slot, name) for prompt in template.prompts)
    c, d = (after.replace(slot, name) for after in template.continuations)
    return Template((a, b), (c, d))


SET_OR_STRING = Task(
    "set_or_string",
    "remember a variable's type: a set is added to, a string extended (preference)",
    _SET_OR_STRING,
    preference=True,
)

SET_OR_STRING_FIXEDVARNAME = Task(
    "set_or_string_fixedvarname",
    "remember the type of a variable that is always called `current` (preference)",
    {
        split: tuple(_with_name(template, "$n0", "current") for template in templates)
        for split, templates in _SET_OR_STRING.items()
    },
    preference=True,
)

_OPEN_OR_LOCK = "« open($n1) as $n2| $n0»:\n    pass\n"
_OPEN_OR_LOCK_INSIDE = "« open($n1) as $n2| $n0»:\n        pass\n"


def _both_orders(head: str, one: str, other: str, tail: str, after: str) -> Template:
    """A: line `one`, then line `other`; B: the other way round.  `head` ends with the lines' indent."""
    line_break = "\n" + head.rpartition("\n")[2]
    return skeleton(f"{head}«{one}{line_break}{other}|{other}{line_break}{one}»{line_break}{tail}", after)


_OPEN_OR_LOCK = "« open($n1) as $n2| $n0»:\n        pass\n"

WITH_OPEN = Task(
    "with_open",
    "open the file or take the lock, whichever was defined last (preference)",
    {
        "train": (
            _both_orders("", "$n0 = Lock()", '$n1 = "$w0"', "with", _OPEN_OR_LOCK),
            _both_orders("def $f0():\n    ", "$n0 = Lock()", "$n1 = $f1($d0)", "with", _OPEN_OR_LOCK),
            _both_orders("import $n3\n", "$n0 = $n3.Lock()", '$n1 = "$w0 $w1"', "with", _OPEN_OR_LOCK),
        ),
        "heldout": (
            _both_orders("if $n3:\n    ", "$n0 = Lock()", '$n1 = "$w0"', "with", _OPEN_OR_LOCK),
            _both_orders("$n3 = $n4\n", "$n0 = Lock()", '$n1 = $n3 + "$w0"', "with", _OPEN_OR_LOCK),
        ),
    },
    preference=True,
)

_SWAP = "«$n0, $n1 = $n1|$n1, $n0 = $n0»,"
_SWAPPED = "« $n0| $n1»\n"

VAR_SWAP = Task(
    "var_swap",
    "finish a swap with the other variable",
    {
        "train": (
            skeleton(f"$n0 = $d0\n$n1 = $d1\n{_SWAP}", _SWAPPED),
            skeleton(f"def $f0($n0, $n1):\n    {_SWAP}", _SWAPPED),
            skeleton(f"$n0 = $n2\n$n1 = $n3\nif $n0 < $n1:\n    {_SWAP}", _SWAPPED),
            skeleton(f"$n0, $n1 = $d0, $d1\n{_SWAP}", _SWAPPED),
        ),
        "heldout": (
            skeleton(f"for $n0, $n1 in $n2:\n    {_SWAP}", _SWAPPED),
            skeleton(f"$n0 = $f0($n2)\n$n1 = $f0($n3)\n{_SWAP}", _SWAPPED),
            skeleton(f"def $f0($n0):\n    $n1 = $d0\n    {_SWAP}", _SWAPPED),
        ),
    },
)

_TEST = "« $n1| $n0»:\n        pass\n"

VAR_IF = Task(
    "var_if",
    "test the variable assigned last, of two (preference)",
    {
        "train": (
            _both_orders("import $n2\n", "$n0 = $n2", "$n1 = $n3", "if", _TEST),
            _both_orders("def $f0($n2):\n    ", "$n0 = $d0", "$n1 = $d1", "if", _TEST),
            _both_orders("", "$n0 = $f0($n2)", "$n1 = $f1($n3)", "if", _TEST),
        ),
        "heldout": (
            _both_orders("for $n2 in $n3:\n    ", "$n0 = $n2", "$n1 = $d0", "if", _TEST),
            _both_orders("import $n2\n", "$n0 = $n2.$f0($d0)", "$n1 = $n2.$f1($d1)", "if", _TEST),
        ),
    },
    preference=True,
)

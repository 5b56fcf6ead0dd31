"""Patterns of tasks are counted as a person would count them, in the windows that a model reads."""

import numpy as np
import pytest

from circuits_jax.data.windows import Windows
from circuits_jax.storage.errors import TaskError
from circuits_jax.tasks import TASKS, Task, skeleton
from circuits_jax.tasks.frequency import count_patterns, pattern_frequencies
from tests.tasks.characters import Characters

# task -> a text, and how often a person finds the places of A and of B in it
COUNTED = {
    "single_double_quote": ('f("a b", \'c\')\nx = ""\n"""Doc."""\ny = [\'d\', \'e f\', "g"]\n', (2, 3)),
    "bracket_counting": (
        "a = [[1, 2], [3]]\nb = [1], [2, 3]\nf([[1], [2]])\ng([4], [5])\nc = [1, 2]\nd = [1], [2]  # x\n",
        (2, 3),
    ),
    "set_or_string": (
        "a = set()\nb = ''\nfor c in d:\n    a.add(c)\n    a.add(1)\n    b += c\n"
        'e = ""\ne.strip()\nf = set()\nf |= a\nself.g = set()\nself.g.add(1)\n',
        (2, 1),
    ),
    "set_or_string_fixedvarname": (
        'current = ""\nif a:\n    current += a\nb = set()\nb.add(current)\n',
        (0, 1),
    ),
    "with_as": ("with open(a) as b:\n    c = f(b, 1)\n    d = f(g(b))\nwith e:\n    pass\n", (1, 1)),
    "with_open": (
        'a = Lock()\nb = "c"\nwith open(b) as d:\n    pass\ne = threading.Lock()\nwith e:\n    pass\n'
        "with open(b) as d:\n    pass\nf = RLock()\nwith f:\n    pass\n",
        (2, 1),
    ),
    "for_while": (
        "for a in b:\n    while a < 3:\n        a += 1\nwhile b:\n    pass\nc = [d for d in b]\n",
        (1, 1),
    ),
    "else_elif": (
        "if a:\n    b\nelif c:\n    d\n    e\nelse:\n    f\n"
        "if a:\n    if b:\n        c\n    elif d:\n        e\nif a:\n    b\nelse:\n    c\n",
        (1, 2),
    ),
    "if_ternary": (
        "a = b if c else d\nif a:\n    pass\nelif b == c:\n    return e if f == 1 else g\n",
        (2, 1),
    ),
    "if_equals": ("if a and b == c:\n    d, e = f\nif a or b.c == 2:\n    g = h, i\nj.k, l = m\n", (2, 2)),
    "fstring_brace": ('print(f"a {b}")\nprint("a", (b))\nf(f\'{c.d} e {g}\')\nprint("a", b)\n', (2, 1)),
    "bracket_brace": (
        "a = [1, 2, 3]\nb = {1, 2, 3}\nc = {1: 2, 3: 4, 5: 6}\nd[1, 2, 3]\nf([a, 'b', 2, 3])\n",
        (2, 1),
    ),
    "var_swap": ("a, b = b, a\nc, d = d, c + d\nself.a, self.b = self.b, self.a\ne, f = g, e\n", (3,)),
    "var_if": ("a = 1\nb = f(2)\nif b:\n    pass\nc = 1\nd = 2\nif c:\n    pass\n", (1,)),
    "indent_for": (
        "def f(a):\n    for b in a:  # c d\n        b = 1  # e\n    for b in a:\n        pass\nc = 1  # d\n",
        (1, 1),
    ),
    "while_return_true": (
        "while True:\n    return True\nreturn True or a\nwhile a:\n    b\n    return True\n",
        (1, 2),
    ),
    "lambda_func": (
        "f = lambda a, b: a\ng = lambda a: a\ndef h(a, b, c):\n    pass\ndef i(a):\n    pass\n",
        (1, 1),
    ),
    "enumerate_range": (
        "for a, b in enumerate(c):\n    for d in range(3):\n        pass\ne = [f for f, g in enumerate(c)]\n"
        "for h in enumerate(c):\n    pass\n",
        (2, 1),
    ),
    "final_kwarg": (
        "f(a=1, b=2, c=3)\ng(a, b, c)\ndef h(a, b, c):\n    i.j(k, l, m, n)\no(a=1, b=2)\n",
        (1, 2),
    ),
    "class_init": (
        'class A:\n    """B."""\n\n    def __init__(self):\n        pass\n'
        "class C:\n    def d(self):\n        pass\n\n    def __init__(self):\n        pass\n"
        "def e(func):\n    def wrapper():\n        pass\n"
        "def f(function):\n    def wrapper():\n        pass\n",
        (1, 1),
    ),
}


@pytest.mark.parametrize("name", TASKS)
def test_places_are_counted_as_by_hand(name):
    text, counts = COUNTED[name]
    assert count_patterns(TASKS[name], text) == counts
    assert count_patterns(TASKS[name], text + "\n\n" + text) == tuple(2 * count for count in counts)
    assert count_patterns(TASKS[name], "import a\n\n\nb = a.c\n") == (0,) * len(counts)


def _task(*patterns):
    templates = {split: (skeleton("$n0«1|2»", "«3|4»"),) for split in ("train", "select", "test")}
    return Task("mine", "asks", templates, patterns=patterns)


def _windows(rows, generated):
    tokens = np.array([Characters().encode(row) for row in rows]).reshape(len(rows), -1)
    return Windows(tokens, {"generated": generated})


def test_windows_are_read_one_by_one_and_parts_apart():
    rows = ["ab ab\n", "xb ax\n", "a\nb\n\n\n", "aa\nab\n"]
    code, programs = pattern_frequencies([_task("a.?b", "^a")], _windows(rows, 1), Characters())
    # 3 windows of 6 tokens: ab, ab, and none over a line's or a window's end; lines with a at their beginning
    assert code["mine"] == pytest.approx((2 / 18 * 1e6, 2 / 18 * 1e6))
    assert programs["mine"] == pytest.approx((1 / 6 * 1e6, 2 / 6 * 1e6))


def test_documents_of_a_window_are_read_apart():
    row = Characters().encode("a = 1")
    tokens = np.array([[*row, Characters.eot, *Characters().encode("b = 2")]])
    windows = Windows(tokens, {"generated": 0})
    code, programs = pattern_frequencies([_task(r"a(?:.|\n)*b", "^b")], windows, Characters())
    assert code["mine"] == pytest.approx((0, 1 / 11 * 1e6)) and programs == {}


def test_tasks_without_patterns_are_left_out():
    code, programs = pattern_frequencies([_task(), _task("a")], _windows(["aa\n"] * 2, 2), Characters())
    assert code == {} and list(programs) == ["mine"]


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(TaskError, match=r"'mine': '\(a' is no regular expression"):
        _task("(a")

"""Tasks whose answer closes what was opened (docs/tasks.md)."""

from circuits_jax.tasks.builtin.blocks import BODY, templates
from circuits_jax.tasks.task import Task
from circuits_jax.tasks.template import skeleton

_QUOTE = """«"|'»"""

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
            skeleton(f"$n0 = $n1.$n2\n$f0($n0, $n3={_QUOTE}$w0 $w1", f"{_QUOTE})\n"),
            skeleton(f"for $n0 in $n1:\n    yield {_QUOTE}$w0 $w1", f"{_QUOTE}\n"),
            skeleton(f"with $n0 as $n1:\n    $n1[$d0] = {_QUOTE}$w0 $w1", f"{_QUOTE}\n"),
            skeleton(f"class $c0:\n    def $f0(self):\n        self.$n0 = {_QUOTE}$w0", f"{_QUOTE}\n"),
        ),
        "select": (
            skeleton(f"$n0 = $n1\nassert $n0 == $n2, {_QUOTE}$w0 $w1", f"{_QUOTE}\n"),
            skeleton(f"$n0.$n1 = $d0\n$n2 = $n0[{_QUOTE}$w0 $w1", f"{_QUOTE}]\n"),
            skeleton(f"while $n0:\n    $n1 = $n0 % {_QUOTE}$w0 $w1", f"{_QUOTE}\n"),
            skeleton(f"def $f0($n0, $n1):\n    return $n0 + {_QUOTE}$w0 $w1", f"{_QUOTE}\n"),
            skeleton(f"if $n0:\n    $n1 += {_QUOTE}$w0 $w1", f"{_QUOTE}\n"),
            skeleton(f"$n0 = $f0($n1)\ndel $n0[{_QUOTE}$w0 $w1", f"{_QUOTE}]\n"),
            skeleton(f"import $n0\n$n1 = $n0, {_QUOTE}$w0 $w1", f"{_QUOTE}\n"),
            skeleton(f"$n2 = [$n3]\n$n0 = lambda $n1: {_QUOTE}$w0 $w1", f"{_QUOTE}\n"),
        ),
        "test": (
            skeleton(f"for $n0 in $n1:\n    print($n0, {_QUOTE}$w0 $w1", f"{_QUOTE})\n"),
            skeleton(f"with $f0($n0) as $n1:\n    $n1.$f1({_QUOTE}$w0 $w1 $w2", f"{_QUOTE})\n"),
            skeleton(f"class $c0:\n    $n0 = $d0\n    $n1 = {_QUOTE}$w0 $w1", f"{_QUOTE}\n"),
            skeleton(f"if not $n0:\n    $n1 = {{$n0: {_QUOTE}$w0 $w1", f"{_QUOTE}}}\n"),
            skeleton(f"$n0 = $n1[$d0]\nif $n0 == {_QUOTE}$w0 $w1", f"{_QUOTE}:\n    pass\n"),
            skeleton(f"$n0.$f0()\n$n1 = ($n0, {_QUOTE}$w0 $w1", f"{_QUOTE})\n"),
        ),
    },
    patterns=(
        r"""(?<!")"[^"'\n]*\w"(?!")""",
        r"""(?<!')'[^"'\n]*\w'(?!')""",
    ),
)

_OPEN, _CLOSE = "«[[|[»", "«]]|]»\n"

BRACKET_COUNTING = Task(
    "bracket_counting",
    "close as many brackets as are open",
    {
        "train": templates(
            _CLOSE,
            f"$pad\n$n0 = {_OPEN}$d0, $d1], [$d2, $d3",
            f"$n0 = $d4\n$pad\n$n1 = $n0 if $n2 else {_OPEN}$d0, $d1], [$d2, $d3",
            f"def $f0($n0):\n    $pad\n    $n1 = {_OPEN}$d0], [$n0, $d1",
            f"$pad\n$n0.$n1 = {_OPEN}$n2, $n3], [$n4, $n5",
            f"$n0 = $n1.$n2\n$pad\n$n0[$d0] = {_OPEN}$d1, $d2], [$d3, $d4",
            f"$n0 = $n1\n$pad\n$n2 = $n3 = {_OPEN}$d0, $d1], [$n0, $d2",
            f"while $n1:\n    $pad\n    $n0 = $n1 and {_OPEN}$d0, $d1], [$d2, $d3",
            f"with $f0() as $n0:\n    $pad\n    $n0.$n1[$d0] = {_OPEN}$d1, $d2], [$d3, $d4",
            f"def $f0(self, $n0):\n    $pad\n    assert $n0 == {_OPEN}$n0, $d0], [$d1, $d2",
        ),
        "select": templates(
            _CLOSE,
            f"def $f0($n0):\n    $pad\n    yield {_OPEN}$n0, $d0], [$d1, $d2",
            f"$n0.$f0()\n$pad\n$n1, $n2 = {_OPEN}$d0, $d1], [$d2, $d3",
            f"$n1 = $d4\n$pad\n$n0 = $n1 or {_OPEN}$d0, $d1], [$d2, $d3",
            f"while $n0:\n    $pad\n    $n0.$n1 += {_OPEN}$d0, $d1], [$d2, $d3",
            f"$n0 = [$n1]\n$pad\n$n2 = $n0 in {_OPEN}$d0, $d1], [$d2, $d3",
            f"if not $n0:\n    $pad\n    $n1 = not {_OPEN}$d0, $d1], [$d2, $d3",
            f"from $n1 import $n2\n$pad\n$n0[$n1, $d0] = {_OPEN}$d1, $d2], [$d3, $d4",
            f"def $f0($n0):\n    if $n0:\n        $pad\n        return $n0 == {_OPEN}$n1, $d0], [$n0, $d1",
        ),
        "test": templates(
            _CLOSE,
            f"$pad\n$n0 += {_OPEN}$d0, $d1, $d2], [$d3, $d4",
            f"def $f0($n0, $n1):\n    $pad\n    return {_OPEN}$n0, $d0], [$n1, $d1",
            f"if $n0:\n    $pad\n    $n1 = $n0, {_OPEN}$d0, $d1], [$d2, $d3",
            f"for $n0 in $n1:\n    $pad\n    $n2 = $n0 + {_OPEN}$d0, $d1], [$d2, $d3",
            f"import $n0\n$pad\n$n1 = lambda: {_OPEN}$d0, $d1], [$d2, $d3",
            f"class $c0:\n    $pad\n    $n0: list = {_OPEN}$d0, $d1], [$d2, $d3",
        ),
    },
    patterns=(
        r"\[\[[^][\n]*\](?:, \[[^][\n]*\])+\]",
        r"(?:= |\()\[[^][\n]*\](?:, \[[^][\n]*\])+(?=\)|  #|$)",
    ),
)

_WITH = "«with|$n0 =»"
_AFTER_CALL = f"«) as $n0:\n{BODY}pass|)»\n"

WITH_AS = Task(
    "with_as",
    "after the call, a `with` goes on and an assignment ends",
    {
        "train": templates(
            _AFTER_CALL,
            f"$n2 = $d0\n$pad\n{_WITH} open($n1",
            f"def $f0($n1):\n    $pad\n    {_WITH} open($n1, $n2",
            f"$pad\n$n1 = $n2\n{_WITH} $f0($n1, $n3",
            f"for $n1 in $n2:\n    $pad\n    {_WITH} $f0($n1, $n3=$d0",
            f"while $n1:\n    $pad\n    {_WITH} $n1.$f0($n2, $d0",
            f"$n1.$f1()\n$pad\n{_WITH} $f0($d0, $n1.$n2",
            f"if $n1 == $n2:\n    $pad\n    {_WITH} $f0($n1 or $n3",
            f"def $f0($n2):\n    if $n2:\n        return $d0\n    $pad\n    {_WITH} $n2($n1, *$n3",
            f"$n3 += $d0\n$pad\n{_WITH} $f0($n1)($n3",
        ),
        "select": templates(
            _AFTER_CALL,
            f"if not $n1:\n    $pad\n    {_WITH} $f0($n2.$n3",
            f"$n1 = [$n2]\n$pad\n{_WITH} $f0(*$n1",
            f"def $f0($n1, $n2):\n    $pad\n    {_WITH} $n1.$n2.$f1($d0",
            f"from $n3 import $f0\n$pad\n{_WITH} $f0($n1 + $n2",
            f"while not $n1:\n    $pad\n    {_WITH} $n2[$d0]($n1",
            f"class $c0:\n    $pad\n    {_WITH} $f0($n2, **$n1",
            f"$n1, $n2 = $n3\n$pad\n{_WITH} $n1.$f0($n2 * $d0",
            f"for $n2 in $n3:\n    if $n2:\n        $pad\n        {_WITH} $f0($n2.$n1, $n3",
        ),
        "test": templates(
            _AFTER_CALL,
            f"if $n1:\n    $pad\n    {_WITH} open($n1 / $n2",
            f"import $n2\n$pad\n{_WITH} $n2.$f0($n1",
            f"for $n2, $n3 in $n1:\n    $pad\n    {_WITH} $f0($n2=$n3",
            f"$n1 += $d0\n$pad\n{_WITH} $n2[$n3].$f0($n1",
            f"class $c0:\n    def $f0(self, $n1):\n        $pad\n        {_WITH} self.$f1($n1",
            f'with $n3:\n    $pad\n    {_WITH} $f0("$w0", $n1',
        ),
    },
    patterns=(
        r"^ *with [\w.]+\([^()\n]*\) as ",
        r"^ *[\w.]+ = [\w.]+\([^()\n]*\)$",
    ),
)

_STRING = '«f"$w0 {|"$w0", (»$n0'
_END = '«}"|)»)\n'

FSTRING_BRACE = Task(
    "fstring_brace",
    "close the innermost opener: the brace of an f-string or a bracket",
    {
        "train": templates(
            _END,
            f"$n1 = $d0\n$pad\nprint({_STRING}",
            f"def $f0($n0):\n    $pad\n    return $f1({_STRING}",
            '$pad\n$n1.$f0(«f"$w0 $w1 {|"$w0 $w1", (»$n0',
            'if $n0:\n    $pad\n    print(«f"{$n1} {|$n1, (»$n0',
            f"while $n1:\n    $pad\n    raise ValueError({_STRING}",
            f"import $n1\n$pad\n$n2 = $n1.$f0({_STRING}",
            f"for $n0 in $n1:\n    $pad\n    $n2 = $f0({_STRING}",
            f"$n1[$d0] = $n2\n$pad\n$n1.$f0($n2, {_STRING}",
            f"with $f0() as $n0:\n    $pad\n    yield $n0.$f1({_STRING}",
        ),
        "select": templates(
            _END,
            f"def $f0($n0):\n    $pad\n    yield $f1({_STRING}",
            f"$n1 = [$n2]\n$pad\n$f0($n1, {_STRING}",
            f"class $c0:\n    $pad\n    $n1 = $n2 or $f0({_STRING}",
            f"if not $n1:\n    $pad\n    $n1 += $f0({_STRING}",
            f"$n1 = $n2[$d0]\n$pad\n$n1[$n2] = $f0({_STRING}",
            f"def $f0($n0, $n1):\n    $pad\n    return $n1 + $f1({_STRING}",
            f"while $n1:\n    if $n2:\n        $pad\n        raise $c0({_STRING}",
            f"from $n1 import $n2\n$pad\n$n2($d0, {_STRING}",
        ),
        "test": templates(
            _END,
            f"for $n0 in $n1:\n    $pad\n    print($n1, {_STRING}",
            '$n1 = $n2\n$pad\n$n3 = $f0(«f"$w0 $w1 {|"$w0 $w1", (»$n0',
            'def $f0($n0):\n    $pad\n    print(«f"$w0: {|"$w0:", (»$n0',
            f"with $n1:\n    $pad\n    assert $n1, $f0({_STRING}",
            f"class $c0:\n    def $f0(self, $n0):\n        $pad\n        self.$f1({_STRING}",
            f"$n1.$f0()\n$pad\n$n2.$n3 = $f1({_STRING}",
        ),
    },
    patterns=(
        r"""\bf["'][^"'{\n]*\{[\w.]+\}""",
        r"""\((["'])[^"'\n]*\1, \([\w.]+\)""",
    ),
)

_EITHER = "«[|{»"

BRACKET_BRACE = Task(
    "bracket_brace",
    "close the list or the set that was opened",
    {
        "train": templates(
            "«]|}»\n",
            f"$pad\n$n0 = {_EITHER}$d0, $d1, $d2",
            f"def $f0($n0):\n    $pad\n    return {_EITHER}$n0, $n1, $n2",
            f"$n1 = $d0\n$pad\n$n0 = $n1 + {_EITHER}$d1, $d2, $d3",
            f'$pad\n$n0.$n1 = {_EITHER}"$w0", $n2, $n3',
            f"while $n1:\n    $pad\n    $n0[$d0] = {_EITHER}$n1, $d1, $d2",
            f"import $n1\n$pad\n$n0 = $n1.$n2, {_EITHER}$d0, $d1, $d2",
            f"for $n1 in $n2:\n    $pad\n    $n0 = $n1 not in {_EITHER}$n2, $d0, $d1",
            f"def $f0($n0):\n    if $n0:\n        $pad\n        return $n0, {_EITHER}$d0, $d1, $d2",
            f"with $n1:\n    $pad\n    $n0 = $n1, $n2, {_EITHER}$d0, $d1, $d2",
        ),
        "select": templates(
            "«]|}»\n",
            f"def $f0($n1):\n    $pad\n    yield {_EITHER}$n1, $n2, $d0",
            f"class $c0:\n    $pad\n    $n0 = $n1 or {_EITHER}$d0, $d1, $d2",
            f"$n1.$f0()\n$pad\n$n0 = $n1 = {_EITHER}$d0, $d1, $d2",
            f"with $f0($n1) as $n2:\n    $pad\n    $n0 = $n1 in {_EITHER}$n2, $d0, $d1",
            f'if not $n1:\n    $pad\n    $n0[$n1] = {_EITHER}"$w0", $n2, $n3',
            f"$n1 = $n2.$n3\n$pad\n$n0 = not {_EITHER}$n1, $n2, $d0",
            f"def $f0($n1, $n2):\n    $pad\n    return $n1 or {_EITHER}$n1, $n2, $d0",
            f"for $n1 in $f0($n2):\n    $pad\n    $n2.$n3 = $n0 = {_EITHER}$n1, $d0, $d1",
        ),
        "test": templates(
            "«]|}»\n",
            f"if $n1:\n    $pad\n    $n0 += {_EITHER}$d0, $d1, $d2, $d3",
            f"for $n1 in $n2:\n    $pad\n    $n0, $n3 = $n1, {_EITHER}$n1, $n2, $d0",
            f"def $f0($n0):\n    $pad\n    assert $n0 not in {_EITHER}$n0, $d0, $d1",
            f"$n2 = $f0($n3)\n$pad\n$n0 = lambda $n1: {_EITHER}$n1, $n2, $d0",
            f"if $n1:\n    $n2 = $d0\nelse:\n    $pad\n    $n0: object = {_EITHER}$n1, $d1, $d2",
            f"class $c0:\n    def $f0(self, $n0):\n        $pad\n        self.$n1 = {_EITHER}$n0, $d0, $d1",
        ),
    },
    patterns=(
        r"(?<![\w\])])\[[^][(){}:,\n]+(?:, [^][(){}:,\n]+){2,}\]",
        r"\{[^][(){}:,\n]+(?:, [^][(){}:,\n]+){2,}\}",
    ),
)

_TRUE = "«while|return» True"

# The deciding line has one form, so the blocks around it differ.
WHILE_RETURN_TRUE = Task(
    "while_return_true",
    "`True` ends the header of a loop or a return statement",
    {
        "train": (
            *templates(
                f"«:\n{BODY}$f1($n1)|»\n",
                f"def $f0($n0):\n    $n1 = $n0\n    $pad\n    {_TRUE}",
                f"def $f0($n1):\n    $pad\n    {_TRUE}",
                f"def $f0($n0):\n    for $n1 in $n0:\n        $pad\n        {_TRUE}",
            ),
            *templates(
                f"«:\n{BODY}pass|»\n", f"def $f0():\n    if $n0 == $d0:\n        $pad\n        {_TRUE}"
            ),
            *templates(
                f"«:\n{BODY}$n0.$f1()|»\n",
                f"def $f0($n0):\n    if $n0:\n        $pad\n        {_TRUE}",
                f"def $f0($n0, $n1):\n    $n0.$n1 = $d0\n    $pad\n    {_TRUE}",
                f"def $f0($n0):\n    while $n0:\n        $pad\n        {_TRUE}",
                f"def $f0($n0, $n1):\n    $n0[$n1] = $d0\n    $pad\n    {_TRUE}",
                f"def $f0($n0, $n1):\n    if $n0 in $n1:\n        $pad\n        {_TRUE}",
            ),
        ),
        "select": templates(
            f"«:\n{BODY}$f2($n0)|»\n",
            f"def $f0($n0):\n    $f1($n0)\n    $pad\n    {_TRUE}",
            f"def $f0($n0):\n    if $n0:\n        return $d0\n    else:\n        $pad\n        {_TRUE}",
            f"def $f0($n0):\n    with $f1($n0) as $n1:\n        $pad\n        {_TRUE}",
            f"def $f0($n0):\n    if not $n0:\n        $pad\n        {_TRUE}",
            f"def $f0($n0):\n    $n1 = [$n0]\n    $pad\n    {_TRUE}",
            f"def $f0(self, $n0):\n    self.$n1 = $n0\n    $pad\n    {_TRUE}",
            f"def $f0($n0):\n    if $n0.$n1:\n        $pad\n        {_TRUE}",
            f"def $f0($n0):\n    for $n1, $n2 in $n0:\n        $pad\n        {_TRUE}",
        ),
        "test": (
            *templates(
                f"«:\n{BODY}pass|»\n",
                f"def $f0($n0):\n    $n0.$f1($n1)\n    $pad\n    {_TRUE}",
                f"class $c0:\n    def $f0(self, $n0):\n        $pad\n        {_TRUE}",
            ),
            *templates(
                f"«:\n{BODY}$f2($n0)|»\n",
                f"def $f0($n0):\n    $n0 += $d0\n    $pad\n    {_TRUE}",
                f"def $f0($n0):\n    for $n1 in $n0:\n        del $n1\n    $pad\n    {_TRUE}",
                f"def $f0($n0):\n    $n1 = $f1($n0)\n    $pad\n    {_TRUE}",
            ),
            skeleton(
                f"def $f0($n0):\n    try:\n        $pad\n        {_TRUE}",
                "«:\n            $n0.$f1()|»\n    except ValueError:\n        pass\n",
            ),
        ),
    },
    patterns=(
        r"^ *while True:",
        r"^ *return True$",
    ),
)

_LAMBDA = "«$f0 = lambda |def $f0(»"
_PARAMETERS = f"«: $n0|):\n{BODY}return $n0»\n"

LAMBDA_FUNC = Task(
    "lambda_func",
    "parameters end with a colon in a lambda, with a bracket in a function",
    {
        "train": templates(
            _PARAMETERS,
            f"$n2 = $d0\n$pad\n{_LAMBDA}$n0, $n1",
            f"$pad\n{_LAMBDA}$n0, $n2, $n1",
            f"import $n3\n$pad\n{_LAMBDA}$n0, $n2, *$n1",
            f"class $c0:\n    $pad\n    {_LAMBDA}self, $n0",
            f"def $f1($n2):\n    $pad\n    {_LAMBDA}$n0, $n1=$d0",
            f"while $n2:\n    $pad\n    {_LAMBDA}$n0, *$n1",
            f"with $n2:\n    $pad\n    {_LAMBDA}$n0, $n3, *, $n1",
            f"$n3 = $n2[$d0]\n$pad\n{_LAMBDA}*$n1, $n0",
            f"for $n3 in $n2:\n    $pad\n    {_LAMBDA}$n0, $n2, **$n1",
        ),
        "select": templates(
            _PARAMETERS,
            f"with $f1() as $n2:\n    $pad\n    {_LAMBDA}$n0=$n2, **$n1",
            f"$n3.$f1()\n$pad\n{_LAMBDA}$n0, $n1, $n2=$n3",
            f"for $n2 in $n3:\n    $pad\n    {_LAMBDA}*$n0, **$n1",
            f"$n2 = [$n3]\n$pad\n{_LAMBDA}$n0=$d0, $n1=$d1",
            f"$n2.$n3 = $d0\n$pad\n{_LAMBDA}$n0, $n2, $n1=$d1",
            f"if not $n2:\n    $pad\n    {_LAMBDA}self, $n1, $n0",
            f"$n3 = not $n2\n$pad\n{_LAMBDA}$n0, *$n2, $n1",
            f"def $f1(self):\n    $pad\n    {_LAMBDA}$n0, $n1=$n2, $n3=$d0",
        ),
        "test": templates(
            _PARAMETERS,
            f"if $n2:\n    $pad\n    {_LAMBDA}$n0=$n2, *$n1",
            f"$n2 = $n3\n$pad\n{_LAMBDA}$n0, /, $n1",
            f"$n2 = $n3 + $d0\n$pad\n{_LAMBDA}$n0, $n1, $n2, $n3",
            f"$n2 = $f1($n3)\n$pad\n{_LAMBDA}$n0, *, $n1",
            f"if $n2:\n    $n3 = $d0\nelse:\n    $pad\n    {_LAMBDA}$n0, **$n1",
            f"from $n3 import $n4\n$pad\n{_LAMBDA}*$n0, $n1=$d0",
        ),
    },
    patterns=(
        r"\blambda \w+(?:, \w+)+:",
        r"^ *def \w+\(\w+(?:, \w+)+\):",
    ),
)

_ARGUMENTS = "$n0«=$d0|», $n1«=$d1|», $n2"

FINAL_KWARG = Task(
    "final_kwarg",
    "keep the calling style of the earlier arguments, by name or by position (preference)",
    {
        "train": templates(
            "«=$d2)|)»\n",
            f"$n3 = $d3\n$pad\n$f0({_ARGUMENTS}",
            f"$pad\n$n3 = $f0({_ARGUMENTS}",
            f"def $f0($n3):\n    $pad\n    $n3.$f1({_ARGUMENTS}",
            f"def $f0($n3):\n    $pad\n    return $f1({_ARGUMENTS}",
            f"import $n3\n$pad\n$n4 = $n3.$f0({_ARGUMENTS}",
            f"while $n3:\n    $pad\n    raise $c0({_ARGUMENTS}",
            f"with $n3:\n    $pad\n    $n4 = $n3[$d3]({_ARGUMENTS}",
            f"$n3 = $n4[$d3]\n$pad\n$n3.$n4 += $f0({_ARGUMENTS}",
            f"def $f0(self, $n3):\n    if $n3:\n        $pad\n        return $n3($d3, {_ARGUMENTS}",
        ),
        "select": templates(
            "«=$d2)|)»\n",
            f"def $f0($n3):\n    $pad\n    yield $f1({_ARGUMENTS}",
            f"$n4 = [$n3]\n$pad\n$n4[$d3] = $f0({_ARGUMENTS}",
            f"class $c0:\n    $pad\n    $n3 += $f0({_ARGUMENTS}",
            f"$n3.$f1()\n$pad\n$f0($n3, {_ARGUMENTS}",
            f"if $n3 == $n4:\n    $pad\n    $n3 = $n4, $f0({_ARGUMENTS}",
            f"with $f0() as $n3:\n    $pad\n    $n3.$n4[$d3] = $f1({_ARGUMENTS}",
            f"$n4 = $n3 + $d3\n$pad\n$n4 = not $f0({_ARGUMENTS}",
            f"def $f0($n3, $n4):\n    $pad\n    return $n3 or $f1({_ARGUMENTS}",
        ),
        "test": templates(
            "«=$d2)|)»\n",
            f"from $n3 import $n4\n$pad\n$n3.$n4.$f0({_ARGUMENTS}",
            f"class $c0:\n    def $f0(self):\n        $pad\n        self.$f1({_ARGUMENTS}",
            f"$n4 = $n3\n$pad\nassert $f0({_ARGUMENTS}",
            f"if not $n3:\n    $pad\n    $n3 = $n4 or $f0({_ARGUMENTS}",
            f"if $n3:\n    $pad\n    $n3.$n4 = $f0({_ARGUMENTS}",
            f"for $n3 in $n4:\n    $pad\n    $n4[$n3].$f0({_ARGUMENTS}",
        ),
    },
    preference=True,
    patterns=(
        r"(?<!def )(?<![\w.])[\w.]+\((?:\w+=[^(),\n]+, ){2,}\w+=",
        r"(?<!def )(?<![\w.])[\w.]+\((?:\w+, ){2,}\w+\)",
    ),
)

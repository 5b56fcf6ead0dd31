"""A text that spells a template of select or test is found, whatever its words, quotes and depth."""

import keyword
import os
import re
import textwrap

import numpy as np
import pytest

from circuits_jax.data.programs.generator import find_grammar, generate_programs
from circuits_jax.data.programs.words import WORDS
from circuits_jax.tasks import TASKS
from circuits_jax.tasks.template import fill, with_padding
from circuits_jax.tasks.withheld import shape, spells_withheld

UNSEEN = [
    (name, split, number)
    for name in TASKS
    for split in ("select", "test")
    for number in range(len(TASKS[name].templates[split]))
]

# What is no word of a slot: keywords, and what templates spell themselves (`open`).
NO_SLOT = sorted(
    {
        word
        for name, split, number in UNSEEN
        for template in [TASKS[name].templates[split][number]]
        for text in template.prompts + template.continuations
        for word in re.findall(r"[A-Za-z_]+", re.sub(r"\$(pad|[a-z]\d)|f\"", " ", text))
    }.union(keyword.kwlist)
    - {"current"}
)


def _texts(template, words):
    """Prompt A and prompt B with their continuations."""
    filled = fill(template, {kind: tuple(each) for kind, each in words.items()}, np.random.RandomState(0))
    return [
        with_padding(prompt, filled, 1) + after
        for prompt, after in zip(filled.prompts, filled.continuations, strict=True)
    ]


@pytest.mark.parametrize(("name", "split", "number"), UNSEEN)
def test_every_template_is_found(name, split, number):
    template = TASKS[name].templates[split][number]
    for text in _texts(template, WORDS["train"]):
        assert spells_withheld(text)
        assert spells_withheld(f"a = 1\n\n\n{text}\n\n\nb = 2\n")
        assert spells_withheld("class A:\n    def b(self):\n" + textwrap.indent(text, " " * 8))
        assert spells_withheld(re.sub(r"^ *# .*\n", "", text, flags=re.M))
        assert spells_withheld(text.replace("\n", "\n# c\n\n", 1))
        if "'" not in text and '"""' not in text:
            assert spells_withheld(text.replace('"', "'"))


def test_templates_to_learn_from_may_be_practised():
    found = {
        (name, number)
        for name in TASKS
        for number, template in enumerate(TASKS[name].templates["train"])
        if any(map(spells_withheld, _texts(template, WORDS["train"])))
    }
    # `def f(a, b): a, b = b, a` and `a = b` above `if c < d:` are templates of other tasks.
    assert found == {("var_swap", 1), ("var_swap", 2)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "def f(a, b):\n    c = 1\n    for d in a:\n        pass\n",
        "for a in b:\n    if c.d:\n        pass\n",  # the template goes on with a colon after `if c`
        "a = set()\nfor b in [c]:\n    a.discard(b)\n".replace("set()", "dict()"),
        "if a:\n    for b in zip(c):\n        pass\n",
    ],
)
def test_others_are_not(text):
    assert not spells_withheld(text)


def test_shapes():
    text = '# x\n\nfoo = set([12, a])  # b c\n    print(f\'x {y.z} {k}\', "w w", \'\')\n"""Doc."""'
    assert shape(text, {"set", "print"}) == ["_ = set([0, _])  #", '    print(_"{_._}{_}", "_", "")', '"_"']
    assert shape('x = "one tw', {"x"}) == ['x = "_'] and shape("x = f'a {b", {"x"}) == ['x = _"{_']


def _pattern(template, role):
    """A regular expression for a prompt and its answer, as far as it takes to tell it from the other one."""
    after, other = template.continuations[role], template.continuations[1 - role]
    shared = re.sub(r"\$[a-z]?$", "", os.path.commonprefix((after, other)))
    text = re.sub(r"^ *\$pad\n|^ *# .*\n", "", template.prompts[role], flags=re.M) + shared
    text += re.match(r" *(?:\$[a-z]\d|\w+|[^\n])|\n", after[len(shared) :])[0]
    name = rf"\b(?!(?:{'|'.join(NO_SLOT)})\b)[A-Za-z_]+"
    pattern, seen = "", set()
    for part in re.split(r"(\$[a-z]\d|[\"'\n])", re.sub("\n+", "\n", text).removesuffix("\n")):
        if part[:1] == "$":
            slot, kind = part[1:], r"\d+" if part[1] == "d" else name
            pattern += f"(?P={slot})\\b" if slot in seen else f"(?P<{slot}>{kind})\\b"
            seen.add(slot)
        else:
            pattern += {"'": "[\"']", '"': "[\"']", "\n": "\n(?P=deeper)"}.get(part, re.escape(part))
    return re.compile(f"^(?P<deeper> *){pattern}{'$' * text.endswith(chr(10))}", re.MULTILINE)


def _written(seeds, count):
    """Programs of many seeds, without blank lines and lines of comment."""
    words = [word for kind in "niw" for word in WORDS["train"][kind] if word not in (*keyword.kwlist, "msg")]
    grammar = find_grammar(2, spells_withheld)
    programs = (
        text for seed in range(seeds) for text in generate_programs(words, seed, count=count, grammar=grammar)
    )
    return re.sub(r"^(?: *#.*)?\n", "", "end\n".join(programs), flags=re.MULTILINE)


def _spelled(text, name):
    """What of `text` spells a template of the task."""
    for split in ("select", "test"):
        for template in TASKS[name].templates[split]:
            for role in range(2):
                if found := _pattern(template, role).search(text):
                    return text[found.start() : found.end() + 40]
    return None


@pytest.fixture(scope="module")
def text():
    return _written(seeds=80, count=2)


@pytest.mark.parametrize("name", TASKS)
def test_no_generated_program_spells_a_template(text, name):
    assert _spelled(text, name) is None


@pytest.mark.slow
def test_no_program_of_many_seeds_spells_a_template():
    text = _written(seeds=1000, count=5)
    assert [found for name in TASKS if (found := _spelled(text, name))] == []


@pytest.mark.parametrize("name", TASKS)
def test_the_pattern_would_find_it(name):
    for split in ("select", "test"):
        for template in TASKS[name].templates[split]:
            for role, spelled in enumerate(_texts(template, WORDS["train"])):
                plain = re.sub(r"^(?: *#.*)?\n", "", spelled, flags=re.MULTILINE)
                pattern = _pattern(template, role)
                assert pattern.search(plain) and pattern.search("if a:\n" + textwrap.indent(plain, "    "))

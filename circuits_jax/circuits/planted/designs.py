"""Three circuits, wired by hand, and the prompts they solve.

See docs/statistics.md, "Networks with a known answer".

A token is a name; `Design.tokens` lists those with a role, the rest of the vocabulary are words.  Numbers are
chosen so that, at a residual norm held nearly constant by the "ballast" channel, attention scores of what
matches are about 8 and what a neuron must tell apart lies well on both sides of its threshold.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from circuits_jax.circuits.planted.draft import Draft

Prompts = tuple[list[str], list[str]]
SHORTEST, LONGEST = 12, 16


@dataclasses.dataclass(frozen=True)
class Design:
    """A circuit and its task.

    Attributes:
      name: Of the circuit.
      tokens: Token -> {channel name: embedding entry}.
      twins: Groups of tokens that only the circuit may tell apart.
      answers: The answer tokens of prompts A and B.
      wire: Sets the circuit's weights, and the answers' unembedding apart.
      prompts: (rng, words) -> prompts A and B, equally long.
    """

    name: str
    tokens: Mapping[str, Mapping[str, float]]
    twins: tuple[tuple[str, ...], ...]
    answers: tuple[str, str]
    wire: Callable[[Draft], None]
    prompts: Callable[[np.random.Generator, Sequence[str]], Prompts]


def _wire_quotes(draft: Draft) -> None:
    """A detector and a type neuron; a head with the one as key and the other as value."""
    detector, kind = draft.neuron(0), draft.neuron(0)
    draft.reads(detector, bias=-10, quote=3, opening=3)
    draft.reads(kind, type=3)
    draft.writes(detector, detected=0.6)
    draft.writes(kind, kind=0.3)
    q, k, v = draft.head(1, sink=0)
    draft.reads(q, closing=1.5)
    draft.reads(k, detected=3)
    draft.reads(v, kind=1)
    draft.writes(v, bias=-1.5, answer=1.5)


def _quote_prompts(rng: np.random.Generator, words: Sequence[str]) -> Prompts:
    """One opening quote, and four tokens that are a quote or opening, but not both."""
    length = int(rng.integers(SHORTEST, LONGEST + 1))
    body = list(rng.choice(words, length - 1))
    places = rng.permutation(length - 1)[:5]
    for place in places[1:]:
        body[place] = str(rng.choice(["single'", 'double"', "single(", "double("]))
    a, b = (_with(body, {places[0]: opener}) for opener in ('open"', "open'"))
    return [*a, "close?"], [*b, "close?"]


QUOTES = Design(
    name="quotes",
    tokens={
        'open"': {"quote": 2, "opening": 2, "type": 2},
        "open'": {"quote": 2, "opening": 2, "type": -2},
        'double"': {"quote": 2, "type": 2},
        "single'": {"quote": 2, "type": -2},
        "double(": {"opening": 2, "type": 2},
        "single(": {"opening": 2, "type": -2},
        "close?": {"closing": 3},
    },
    twins=(('open"', "open'"), ('double"', "single'"), ("double(", "single(")),
    answers=('double"', "single'"),
    wire=_wire_quotes,
    prompts=_quote_prompts,
)


def _wire_brackets(draft: Draft) -> None:
    """A head averages open minus closed brackets over all tokens; a neuron is the threshold."""
    _, _, v = draft.head(0, sink=-4)
    draft.reads(v, opened=1, closed=-1)
    draft.writes(v, depth=5)
    threshold = draft.neuron(1)
    draft.reads(threshold, bias=-9, depth=6.6)
    draft.writes(threshold, bias=-1.5, answer=0.8)


def _bracket_prompts(rng: np.random.Generator, words: Sequence[str]) -> Prompts:
    """A list that is two (A) or one (B) brackets deep at its end, some others being closed."""
    length, closed = int(rng.integers(12, 15)), int(rng.integers(0, 3))
    body = list(rng.choice(words, length))
    # Not among the first three tokens, of which one bracket would be a large share.
    places = sorted(3 + rng.permutation(length - 4)[: 2 * closed + 2])
    for i, place in enumerate(places):
        body[place] = "[" if i < closed + 2 else "]"
    changed = int(rng.choice(places[: closed + 2]))
    return body, _with(body, {changed: "."})


BRACKETS = Design(
    name="brackets",
    tokens={"[": {"opened": 2}, "]": {"closed": 2}, ".": {"inert": 2}, "]]": {}},
    twins=(("[", "."),),
    answers=("]]", "]"),
    wire=_wire_brackets,
    prompts=_bracket_prompts,
)


def _wire_binding(draft: Draft) -> None:
    """One head copies a variable's name onto its value; a second finds the value by that name."""
    q, k, v = draft.head(0, sink=4)
    draft.reads(q, wants=2.6)
    draft.reads(k, slot=2.6)
    draft.reads(v, name=1)
    draft.writes(v, bound=1)
    q, k, v = draft.head(1, sink=-2)
    draft.reads(q, asked=2.6)
    draft.reads(k, bound=2.6)
    draft.reads(v, type=1)
    draft.writes(v, answer=0.8)


def _binding_prompts(rng: np.random.Generator, words: Sequence[str]) -> Prompts:
    """Two names, then their two values, which slots 1 and 2 join; last, one of the names."""
    length = int(rng.integers(SHORTEST, LONGEST + 1))
    body = list(rng.choice(words, length - 1))
    places = sorted(rng.permutation(length - 1)[:4])
    names = rng.permutation(["x", "y"])
    slots = rng.permutation([1, 2])
    for place, name, slot in zip(places[:2], names, slots, strict=True):
        body[place] = f"{name}{slot}"
    asked = int(rng.integers(2))
    order = rng.permutation(2)
    values = {
        kinds: {
            place: f"{kinds[0] if i == asked else kinds[1]}{slots[i]}"
            for place, i in zip(places[2:], order, strict=True)
        }
        for kinds in (("set", "str"), ("str", "set"))
    }
    a, b = (_with(body, values[kinds]) for kinds in values)
    return [*a, f"{names[asked]}?"], [*b, f"{names[asked]}?"]


_SIGNS = {"x": 2, "y": -2, "set": 2, "str": -2, "1": 2, "2": -2}
BINDING = Design(
    name="binding",
    tokens={
        **{n + s: {"name": _SIGNS[n], "slot": _SIGNS[s]} for n in "xy" for s in "12"},
        **{v + s: {"type": _SIGNS[v], "wants": _SIGNS[s]} for v in ("set", "str") for s in "12"},
        **{n + "?": {"asked": _SIGNS[n]} for n in "xy"},
        ".add": {},
        " +=": {},
    },
    twins=(("x1", "y1"), ("x2", "y2"), ("set1", "str1"), ("set2", "str2"), ("x?", "y?")),
    answers=(".add", " +="),
    wire=_wire_binding,
    prompts=_binding_prompts,
)

DESIGNS = {design.name: design for design in (QUOTES, BRACKETS, BINDING)}


def _with(body: list[str], changes: Mapping[int, str]) -> list[str]:
    return [str(changes.get(place, token)) for place, token in enumerate(body)]

"""The stories of circuits for their pages (page/story.js)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from circuits_jax.circuits.circuit import Circuit, Node
from circuits_jax.circuits.stories.files import has_story, read_story
from circuits_jax.circuits.stories.story import (
    COMPARE,
    FILE,
    Claim,
    Role,
    Story,
    Where,
    control_words,
    outcome,
)
from circuits_jax.storage import notices
from circuits_jax.storage.errors import UserError

_FIGURES = {
    "flips": "the share of answers that flip",
    "right": "the share of right answers",
    "A": "the share of prompts that then prefer the answer of A",
    "B": "the share of prompts that then prefer the answer of B",
    "higher": "how often, in a pair, the activation is higher there",
}
_PLACES = {
    "everywhere": "every position",
    "earlier": "all positions but the last",
    "last": "the last position",
    "differ": "the positions where the two prompts differ",
}


def read_told(circuits: Mapping[Path, Circuit]) -> dict[str, dict[str, Any]]:
    """{circuit's folder name: its story as a page reads it}; what is no story of its circuit is left out, and
    told.

    Args:
      circuits: By their folders.
    """
    found = {}
    for folder, circuit in circuits.items():
        if not has_story(folder):
            continue
        try:
            found[folder.name] = story_data(read_story(folder / FILE, circuit))
        except UserError as error:
            notices.at_the_end(f"left out the story of {folder.name}: {error}")
    return found


def story_data(story: Story) -> dict[str, Any]:
    """A story as plain data: words, nodes by name, figures where they were measured."""
    measured = story.measured
    figures = [[None] * len(role.claims) for role in story.roles] if measured is None else measured["roles"]
    confirmed: Sequence[bool | None] = story.confirmed or [None] * len(story.roles)
    roles = [
        _role(role, yes, found) for role, yes, found in zip(story.roles, confirmed, figures, strict=True)
    ]
    settings = None if measured is None else measured["settings"]
    return {"title": story.title, "text": list(story.text), "roles": roles, "settings": settings}


def _role(role: Role, confirmed: bool | None, figures: list[Any]) -> dict[str, Any]:
    claims = [
        {
            "words": claim.words,
            "how": how(claim),
            "figure": _FIGURES[claim.figure],
            "bound": claim.bound,
            "at_most": claim.at_most,
            "measured": None if figure is None else _shown(figure),
        }
        for claim, figure in zip(role.claims, figures, strict=True)
    ]
    nodes = list(map(str, role.nodes))
    return {"name": role.name, "says": role.says, "nodes": nodes, "confirmed": confirmed, "claims": claims}


def _shown(figure: Mapping[str, Any]) -> dict[str, Any]:
    """A claim's figures, with words for its outcome and its control."""
    return {**figure, "outcome": outcome(figure), "beside": control_words(figure["control"])}


def how(claim: Claim) -> str:
    """What is done, in words."""
    names = _listed(claim.nodes)
    where = _place(claim.where)
    if claim.do == COMPARE:
        than = "all others" if claim.than is None else _place(claim.than)
        each = "" if len(claim.nodes) == 1 else ", on average"
        return f"Nothing is changed: {names} at {where} against {than}{each}."
    if claim.do == "swap":
        return f"At {where}, {names}: set to what the other prompt of the pair has there."
    values = ["its mean" if value is None else f"{value:g}" for value in claim.values]
    if len(set(values)) == 1:
        return f"At {where}, {names}: set to {values[0]}."
    each = ", ".join(f"{node} to {value}" for node, value in zip(claim.nodes, values, strict=True))
    return f"At {where}, set {each}."


def _place(where: Where) -> str:
    """Positions in words."""
    place = _PLACES[where.at]
    if where.tokens:
        tokens = " ".join(f"#{each}" if isinstance(each, int) else repr(each) for each in where.tokens)
        place = f"tokens {tokens}" + ("" if where.at == "everywhere" else f", of {place}")
    return f"{place} of prompt {where.prompt}" if where.prompt else place


def _listed(nodes: tuple[Node, ...]) -> str:
    return ", ".join(map(str, nodes))

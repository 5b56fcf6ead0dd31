"""A story of a circuit as an object: roles, nodes, and claims that could fail (docs/method.md, "Stories").

`files` reads it; no JAX is needed here.
"""

import dataclasses
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from circuits_jax.circuits.circuit import Node
from circuits_jax.storage.files import write_json

FILE = "story.json"

INTERVENTIONS, COMPARE = ("swap", "set"), "compare"
FIGURES = ("flips", "right", "A", "B")
PROMPTS = ("A", "B")
REST, RANDOM_SETS, RANK = "rest", "random sets", "rank"  # kinds of control
PLACES = ("everywhere", "earlier", "last", "differ")


@dataclasses.dataclass(frozen=True)
class Where:
    """Positions of prompts: those that satisfy all of this.

    Attributes:
      tokens: Texts or ids of tokens; any token where there are none.
      prompt: "A" or "B", of which prompts of pairs; "" for both.
      at: Of PLACES: everywhere, all but the last position, the last, or where a pair's prompts differ.
    """

    tokens: tuple[str | int, ...] = ()
    prompt: str = ""
    at: str = PLACES[0]


@dataclasses.dataclass(frozen=True)
class Claim:
    """What must hold if a role is as told.

    Attributes:
      words: The claim, in a sentence.
      do: "swap": nodes take their values on the pair's other prompt; "set": they are set to values; or
        "compare": nothing is done, and activations at two kinds of positions are compared.
      nodes: Of which nodes.
      where: The positions at which it is done, or where activations are the higher ones.
      than: Of "compare", where they are the lower ones, `where` then being of other positions; None for all
        that are not of `where`.
      values: Of "set", what each of `nodes` is set to; None is its mean over the corpus.
      figure: Of FIGURES, a share of prompts: answers that flip, right answers, or those that prefer the
        answer of A (or of B) afterwards.  Of "compare" it is "higher": how often an activation at `where` is
        above one at `than` of the same pair, ties half, averaged over the nodes.
      bound: What decides.
      at_most: Whether the figure must be at most the bound; else at least.
    """

    words: str
    do: str
    nodes: tuple[Node, ...]
    where: Where
    than: Where | None
    values: tuple[float | None, ...]
    figure: str
    bound: float
    at_most: bool

    @property
    def sign(self) -> str:
        """What the figure must be, beside its bound."""
        return "<=" if self.at_most else ">="


@dataclasses.dataclass(frozen=True)
class Role:
    """A part that nodes of a circuit play.

    Attributes:
      name: Such as "detector".
      nodes: That play it.
      says: What they do, in a sentence.
      claims: At least one, and one of them an intervention.
    """

    name: str
    nodes: tuple[Node, ...]
    says: str
    claims: tuple[Claim, ...]


@dataclasses.dataclass(frozen=True, repr=False)
class Story:
    """A story of a circuit.

    Attributes:
      title, text: A line, and sentences.
      roles: At least one.
      told: The story as it stands in its file, without what was measured.
      measured: {settings, roles: for each role its claims' figures}, of these very roles; None if they were
        not measured, or were changed since.
    """

    title: str
    text: tuple[str, ...]
    roles: tuple[Role, ...]
    told: Mapping[str, Any]
    measured: Mapping[str, Any] | None = None

    @property
    def confirmed(self) -> list[bool] | None:
        """For each role whether all of its claims pass; None if they were not measured."""
        if self.measured is None:
            return None
        return [all(figure["passes"] for figure in role) for role in self.measured["roles"]]

    @property
    def outcomes(self) -> list[str]:
        """For each role how it came out, in words."""
        if self.measured is None:
            return ["not measured"] * len(self.roles)
        return [_outcome_of(role) for role in self.measured["roles"]]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row a claim, for a table; without figures where they were not measured."""
        found = [[None] * len(role.claims) for role in self.roles]
        if self.measured is not None:
            found = self.measured["roles"]
        return [
            {"role": role.name, "claim": claim.words, "bound": f"{claim.sign} {claim.bound:g}"}
            | ({} if figure is None else _shown(figure))
            for role, figures in zip(self.roles, found, strict=True)
            for claim, figure in zip(role.claims, figures, strict=True)
        ]

    def __repr__(self) -> str:
        if self.confirmed is None:
            return f"{self.title}: {len(self.roles)} roles, not measured"
        return f"{self.title}: {sum(self.confirmed)} of {len(self.roles)} roles confirmed"

    def _repr_html_(self) -> str:
        rows = self.rows
        columns = list(dict.fromkeys(key for row in rows for key in row))
        head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
        lines = ("".join(f"<td>{html.escape(str(row[key]))}</td>" for key in columns) for row in rows)
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<table><caption>{html.escape(repr(self))}</caption><tr>{head}</tr>{body}</table>"

    @property
    def digest(self) -> str:
        """Of what is measured: the circuit, and the roles' names, nodes and claims."""
        roles = [{key: role[key] for key in ("name", "nodes", "claims")} for role in self.told["roles"]]
        measured = [self.told["circuit"], roles]
        return hashlib.sha256(json.dumps(measured, sort_keys=True).encode()).hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Writes it beside the circuit in `folder`."""
        measured = {} if self.measured is None else {"measured": {"of": self.digest, **self.measured}}
        write_json(folder / FILE, {**self.told, **measured})


def outcome(figure: Mapping[str, Any]) -> str:
    """How a claim came out, in words: confirmed or not, and why not."""
    close = "" if figure["clear"] else ", close"
    if figure["passes"]:
        return f"confirmed{close}"
    if not figure["holds"]:
        return f"not confirmed: it misses its bound{close}"
    control = figure["control"]
    if control["kind"] == REST:
        return "not confirmed: the rest of the site does as much"
    if control["kind"] == RANK:
        return "not confirmed: other nodes differ more"
    if control["figure"] is None:
        return f"not confirmed: too few other nodes to compare with ({control['sets']} sets)"
    return "not confirmed: random nodes do as well"


def control_words(control: Mapping[str, Any]) -> str:
    """What a claim's figure is held against, in words."""
    if control["kind"] == REST:
        return f"{control['figure']:.2f} by the {control['nodes']} others"
    if control["kind"] == RANK:
        return f"rank {control['rank']} of {control['among']}, {control['share']:.0%} of the difference"
    if control["figure"] is None:
        return f"{control['sets']} random sets, too few"
    return f"{control['figure']:.2f}, best of random; {control['meet']} of {control['sets']} meet the bound"


def _outcome_of(figures: Sequence[Mapping[str, Any]]) -> str:
    """How a role came out: confirmed if all of its claims pass, close where the interval of one does not."""
    passed = [figure["passes"] for figure in figures]
    if not all(passed):
        return f"not confirmed ({sum(passed)} of {len(passed)} claims)"
    return "confirmed" if all(figure["clear"] for figure in figures) else "confirmed, close"


def _shown(figure: Mapping[str, Any]) -> dict[str, str]:
    """A claim's figures as a table shows them."""
    return {
        "figure": f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})",
        "beside": control_words(figure["control"]),
        "outcome": outcome(figure),
    }

"""`story.json`, beside a circuit: what its nodes do, told by roles, and claims that could fail.

    circuit      the digest of the circuit that it is told of (`Circuit.digest`)
    title, text  a line, and sentences
    roles        name, nodes, says: one sentence; claims: what must hold if the role is as told
    measured     figures of the claims, which the project writes (`runs.stories`); no one else does

A claim names something that is done to nodes, where, what becomes of the model's answers, and the bound that
decides.  It is written before it is measured: figures are void once a claim or a node is changed.  Sentences
about them may follow what came out.
See docs/method.md, "Stories".  No JAX is needed here.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from circuits_jax.circuits.circuit import Circuit, Node
from circuits_jax.circuits.stories.story import (
    COMPARE,
    FIGURES,
    FILE,
    INTERVENTIONS,
    PLACES,
    PROMPTS,
    RANDOM_SETS,
    RANK,
    REST,
    Claim,
    Role,
    Story,
    Where,
)
from circuits_jax.storage.errors import CheckpointError, CircuitError
from circuits_jax.storage.files import read_json
from circuits_jax.storage.paths import exists

FORMAT, VERSION = "circuits_jax.story", 1
MEAN = "mean"
# What is measured of a claim (`measure.StoryMeasurer`).
FIELDS = {"value", "low", "high", "before", "control", "holds", "clear", "passes"}
# What its control holds (`controls`).
CONTROLS = {
    REST: {"figure", "nodes", "meets"},
    RANDOM_SETS: {"figure", "sets", "meet"},
    RANK: {"rank", "among", "share", "chance"},
}
LONGEST = 2000  # letters of one text


def has_story(folder: Path) -> bool:
    """Whether a story lies beside the circuit in `folder`."""
    return exists(folder / FILE)


def read_story(path: Path, circuit: Circuit) -> Story:
    """The story of `circuit` in a file.

    Raises:
      CheckpointError: if the file cannot be read, or is no story.
      CircuitError: if it is told of another circuit, or a role names a node that the circuit has not.
    """
    found = read_json(path)
    try:
        return parse_story(found, circuit)
    except CircuitError as error:
        raise CircuitError(f"{path}: {error}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def parse_story(found: Mapping[str, Any], circuit: Circuit) -> Story:
    """What a file holds as a story of `circuit`; raises as `read_story`, without the file's name."""
    if (found.get("format"), found.get("version")) != (FORMAT, VERSION):
        raise CheckpointError(
            f"this is no story of version {VERSION}; write "
            f'"format": "{FORMAT}", "version": {VERSION} (docs/method.md, "Stories")'
        )
    if found.get("circuit") != circuit.digest:
        raise CircuitError(
            f"the story is of circuit {found.get('circuit')!r}, and this one of {circuit.task} is "
            f"{circuit.digest!r}; look at the nodes again, then write its digest"
        )
    told = {key: value for key, value in found.items() if key != "measured"}
    fields = _Fields(told, "the story")
    fields.only("format", "version", "circuit", "title", "text", "roles")
    reader = _RoleReader(circuit)
    roles = tuple(reader.role(each, f"role {i + 1}") for i, each in enumerate(fields.many("roles")))
    names = [role.name for role in roles]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise CheckpointError(f"two roles are called {twice!r}; give each a name of its own")
    text = tuple(_text(each, "a sentence of the text") for each in fields.many("text"))
    story = Story(fields.text("title"), text, roles, told)
    return dataclasses.replace(story, measured=_measured(found.get("measured"), story))


def _measured(found: Any, story: Story) -> dict[str, Any] | None:
    """What was measured of these very roles, if it is whole."""
    if not isinstance(found, dict) or found.get("of") != story.digest:
        return None
    roles: Any = found.get("roles")
    sizes = [len(role.claims) for role in story.roles]
    whole = isinstance(found.get("settings"), dict) and isinstance(roles, list)
    if not whole or [len(role) if isinstance(role, list) else None for role in roles] != sizes:
        return None
    if not all(_is_figure(figure) for role in roles for figure in role):
        return None
    return {key: value for key, value in found.items() if key != "of"}


def _is_figure(found: Any) -> bool:
    """Whether this is what is measured of a claim; one that was cut by hand, say, is as good as missing."""
    if not isinstance(found, dict) or not set(found) >= FIELDS:
        return False
    control = found["control"]
    wanted = CONTROLS.get(str(control.get("kind"))) if isinstance(control, dict) else None
    if wanted is None or not set(control) >= wanted:  # figures of before had other controls
        return False
    numbers = [found[name] for name in ("value", "low", "high")] + [control[name] for name in wanted]
    return all(isinstance(each, int | float) for each in [*numbers, found["before"]] if each is not None)


class _Fields:
    """The fields of an object in the file, and where it stands, for errors."""

    def __init__(self, values: Any, place: str):
        if not isinstance(values, Mapping):
            raise CheckpointError(f"{place} is no object")
        self.values, self.place = values, place

    def only(self, *names: str) -> None:
        """Raises for a field of another name, which would be passed over."""
        if unknown := [name for name in self.values if name not in names]:
            raise CheckpointError(f"{self.place} has a field {unknown[0]!r}; it may have {', '.join(names)}")

    def text(self, name: str) -> str:
        return _text(self.values.get(name), f"{name!r} of {self.place}")

    def many(self, name: str) -> Sequence[Any]:
        found = self.values.get(name)
        if not isinstance(found, list) or not found:
            raise CheckpointError(f"{name!r} of {self.place} must be a list of one or more")
        return found

    def choice(self, name: str, choices: Sequence[str], usual: str | None = None) -> str:
        found = self.values.get(name, usual)
        if found not in choices:
            raise CheckpointError(
                f"{name!r} of {self.place} is {found!r}; choose one of {', '.join(choices)}"
            )
        return str(found)


class _RoleReader:
    """Reads the roles of a story of one circuit."""

    def __init__(self, circuit: Circuit):
        self._circuit = circuit
        self._nodes = {str(node): node for node in circuit.nodes}

    def role(self, found: Any, place: str) -> Role:
        fields = _Fields(found, place)
        fields.only("name", "nodes", "says", "claims")
        name = fields.text("name")
        fields.place = place = f"role {name!r}"
        nodes = self._named(fields.many("nodes"), place)
        claims = tuple(
            self._claim(each, nodes, f"claim {i + 1} of {place}")
            for i, each in enumerate(fields.many("claims"))
        )
        if not any(claim.do in INTERVENTIONS for claim in claims):
            raise CheckpointError(
                f"{place} has no claim that intervenes ({' or '.join(INTERVENTIONS)}); what is only seen "
                "may have another cause"
            )
        return Role(name, nodes, fields.text("says"), claims)

    def _claim(self, found: Any, nodes: tuple[Node, ...], place: str) -> Claim:
        fields = _Fields(found, place)
        do = fields.choice("do", (*INTERVENTIONS, COMPARE))
        own = {"swap": ("figure",), "set": ("figure", "to"), COMPARE: ("than",)}[do]
        fields.only("claim", "do", "nodes", "where", "at_least", "at_most", *own)
        if "nodes" in fields.values:
            nodes = self._named(fields.many("nodes"), place)
        bounds = [name for name in ("at_least", "at_most") if name in fields.values]
        if len(bounds) != 1:
            raise CheckpointError(f"{place} must have one bound, at_least or at_most")
        bound = _number(fields.values[bounds[0]], f"{bounds[0]!r} of {place}")
        if not 0 <= bound <= 1:
            raise CheckpointError(f"{bounds[0]!r} of {place} is {bound}; figures are shares, from 0 to 1")
        than = fields.values.get("than")
        return Claim(
            words=fields.text("claim"),
            do=do,
            nodes=nodes,
            where=_where(fields.values.get("where", {}), f"'where' of {place}"),
            than=None if than is None else _where(than, f"'than' of {place}"),
            values=self._values(fields.values.get("to"), nodes, place) if do == "set" else (),
            figure="higher" if do == COMPARE else fields.choice("figure", FIGURES),
            bound=bound,
            at_most=bounds == ["at_most"],
        )

    def _values(self, found: Any, nodes: tuple[Node, ...], place: str) -> tuple[float | None, ...]:
        """What each node is set to: one value of all, or an object that has each."""
        if not isinstance(found, Mapping):
            found = {str(node): found for node in nodes}
        if set(found) != set(map(str, nodes)):
            raise CheckpointError(f"'to' of {place} must have a value for each of its nodes and no other")
        return tuple(
            None if found[str(node)] == MEAN else _number(found[str(node)], f"the value of {node} in {place}")
            for node in nodes
        )

    def _named(self, found: Sequence[Any], place: str) -> tuple[Node, ...]:
        for each in found:
            if not isinstance(each, str) or each not in self._nodes:
                example = f", such as {next(iter(self._nodes))!r}" if self._nodes else ""
                raise CircuitError(
                    f"{place} names the node {each!r}, which the circuit of {self._circuit.task} has not; "
                    f"name its own{example}"
                )
        if len(set(found)) < len(found):
            raise CheckpointError(f"{place} names a node twice")
        return tuple(self._nodes[each] for each in found)


def _where(found: Any, place: str) -> Where:
    fields = _Fields(found, place)
    fields.only("tokens", "prompt", "at")
    tokens = fields.many("tokens") if "tokens" in fields.values else ()
    if wrong := [each for each in tokens if isinstance(each, bool) or not isinstance(each, str | int)]:
        raise CheckpointError(f"{place} names {wrong[0]!r}; a token is a text or an id")
    return Where(
        tuple(tokens), fields.choice("prompt", (*PROMPTS, ""), ""), fields.choice("at", PLACES, PLACES[0])
    )


def _text(found: Any, place: str) -> str:
    if not isinstance(found, str) or not found.strip():
        raise CheckpointError(f"{place} must be a text")
    if len(found) > LONGEST:
        raise CheckpointError(f"{place} has {len(found):,} letters; at most {LONGEST:,}")
    if any("\ud800" <= letter <= "\udfff" for letter in found):
        raise CheckpointError(f"{place} holds half a character, which no file can keep; give whole ones")
    return found


def _number(found: Any, place: str) -> float:
    if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) < 1e38:
        raise CheckpointError(f"{place} is {found!r}; give a finite number")
    return float(found)

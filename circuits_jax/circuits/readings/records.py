"""`readings.json`, beside a circuit: the readings of its edges; and the same as an object."""

import dataclasses
import hashlib
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from circuits_jax.circuits.circuit import MANIFEST
from circuits_jax.config import ReadingsConfig
from circuits_jax.config.identity import identity
from circuits_jax.storage.files import read_json_if_any
from circuits_jax.storage.tables import Report

FORMAT, VERSION = "circuits_jax.readings", 1
FILE, UNFINISHED = "readings.json", "readings.unfinished.json"


@dataclasses.dataclass(frozen=True, repr=False)
class ReadingsReport:
    """The readings of one circuit's edges; it prints as one line and shows itself in a notebook.

    Attributes:
      task: The circuit's task.
      report: All that was measured, as it stands in `readings.json`: dicts, lists and numbers.
    """

    task: str
    report: Mapping[str, Any]

    @property
    def rows(self) -> list[Report]:
        """One an edge, the best reading first, then the edges of too small an effect, by effect."""
        return self.report["rows"]

    @property
    def summary(self) -> Mapping[str, Any]:
        """See `summary_of`."""
        return self.report["summary"]

    @property
    def share(self) -> float | None:
        """The share of the judged edges whose reading passes; None where none is judged."""
        return self.summary["share"]

    def __repr__(self) -> str:
        found = self.summary
        return (
            f"{self.task}: {found['passed']} of {found['judged']} edges are read, under "
            f"{self.report['ablation']} ablation; {found['weak']} more have too small an effect"
        )

    def _repr_html_(self) -> str:
        rows = show_rows(self.rows)
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text = [[_short(row.get(column, "")) for column in columns] for row in rows]
        head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in text)
        return f"<table><caption>{html.escape(repr(self))}</caption><tr>{head}</tr>{body}</table>"


def summary_of(rows: Sequence[Report], config: ReadingsConfig) -> dict[str, Any]:
    """{edges: in all; weak: of too small an effect; judged: the others; passed; share: passed of judged, or
    None}."""
    judged = [row for row in rows if not is_weak(row, config)]
    passed = sum(bool(row["passes"]) for row in judged)
    return {
        "edges": len(rows),
        "weak": len(rows) - len(judged),
        "judged": len(judged),
        "passed": passed,
        "share": passed / len(judged) if judged else None,
    }


def is_weak(row: Report, config: ReadingsConfig) -> bool:
    """Whether an edge's effect is too small to say what keeps it, or none at all."""
    return not (row["effect"] > 0 and row["effect"] >= config.effect)


def best_first(rows: Sequence[Report]) -> list[Report]:
    """Those that pass, then the others that are judged, each by score; then the weak ones, by effect."""
    return sorted(
        rows,
        key=lambda row: (
            row["passes"] is None,
            not row["passes"],
            -(row["score"] if "score" in row else row["effect"]),
        ),
    )


def show_rows(rows: Sequence[Report], tokens: int = 6) -> list[dict[str, Any]]:
    """The rows of judged edges for a table, with up to `tokens` of their tokens."""
    shown = []
    for row in rows:
        if row["passes"] is None:
            continue
        texts, more = row["tokens"][:tokens], len(row["tokens"]) - tokens
        words = " ".join(map(repr, texts)) + (f" and {more} more" if more > 0 else "")
        figures = {key: row[key] for key in ("coverage", "recovery", "inverse", "effect")}
        passes = "passes" if row["passes"] else "fails"
        if row["random_sets"] is not None and row["random"] is None:
            passes = f"fails: too few other sets to beat ({row['random_sets']})"
        shown.append(
            {"edge": f"{row['source']} -> {row['target']}", "tokens": words, **figures, "reading": passes}
        )
    return shown


def of_circuit(folder: Path) -> str:
    """What says which circuit lies in a folder: the hash of its manifest, which names its arrays' hash."""
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def read_readings(folder: Path) -> dict[str, Any] | None:
    """The report beside the circuit in `folder`, if it is of that circuit as it is now."""
    found = read_json_if_any(folder / FILE)
    return found if _fits(found, folder) else None


def earlier(path: Path, folder: Path, settings: Mapping[str, Any], rules: Any) -> dict[str, Any] | None:
    """The report in a file, finished or not, if it is of the circuit in `folder` and made in the same way.

    Args:
      path: FILE or UNFINISHED.
      folder: The circuit's.
      settings: Of `readings`, as a table.
      rules: The user's, as they stand in the report.
    """
    found = read_json_if_any(path)
    same = _fits(found, folder) and found.get("rules") == rules
    theirs = found.get("settings")
    if not same or not isinstance(theirs, dict):
        return None
    return found if identity(ReadingsConfig, theirs) == identity(ReadingsConfig, settings) else None


def _fits(found: Mapping[str, Any], folder: Path) -> bool:
    known = (found.get("format"), found.get("version")) == (FORMAT, VERSION)
    if not known or found.get("circuit") != of_circuit(folder) or not isinstance(found.get("rows"), list):
        return False
    # Earlier releases let a reading pass that beat fewer random sets than asked: it is read again.
    settings = found.get("settings")
    draws = settings.get("draws") if isinstance(settings, dict) else None
    passed = [row for row in found["rows"] if isinstance(row, dict) and row.get("passes")]
    return all(row.get("random_sets") == draws for row in passed)


def _short(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)

"""Which edges of circuits are read by a rule on tokens, for their pages (page/readings.js)."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from circuits_jax.circuits.readings.records import read_readings

_SHOWN = (
    "source", "target", "rule", "coverage", "recovery", "inverse", "effect", "random", "random_sets",
    "passes",
)  # fmt: skip
_SETTINGS = ("recovery", "coverage", "effect", "draws", "pairs")
MOST_TOKENS = 100  # of one reading; a page names how many there are


def read_shown(folders: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """{circuit's folder name: {summary, settings, rows: of the judged edges, the best readings first}}.

    Circuits without readings, or with those of an earlier state of theirs, are left out.

    Args:
      folders: Of circuits.
    """
    found = {}
    for folder in folders:
        report = read_readings(folder)
        if report is None:
            continue
        try:
            rows = [
                {name: row[name] for name in _SHOWN}
                | {"tokens": [str(each) for each in row["tokens"][:MOST_TOKENS]], "count": len(row["tokens"])}
                for row in report["rows"]
                if row["passes"] is not None
            ]
            settings = {name: report["settings"][name] for name in _SETTINGS}
            found[folder.name] = {"summary": report["summary"], "settings": settings, "rows": rows}
        except (KeyError, TypeError):  # cut by hand, say: as good as missing
            continue
    return found

"""Results as a table for people and, with the same figures, as JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from circuits_jax.storage.files import write_json

Row = dict[str, str | float]
"""One line of a table: its columns by name."""
Report = dict[str, Any]
"""Figures of several kinds by name, as JSON holds them."""


def save_table(
    rows: Sequence[Mapping[str, Any]],
    path: Path,
    summary: Mapping[str, Any] | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Writes `summary`, `rows` and `details` to `path`, whole or not at all; numbers not finite as null."""
    write_json(path, {"summary": dict(summary or {}), "rows": list(rows), **(details or {})})


def show_table(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any] | None = None) -> str:
    """The figures of `summary`, a line each, and a table of `rows`."""
    lines = [f"{name}: {_show(value)}" for name, value in (summary or {}).items()]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *([_show(row.get(key, "")) for key in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return "\n".join(lines)


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)

"""The tables of the documentation, from JSON files: `python docs/tables.py`; `--check` compares only.

Between `<!-- table: NAME -->` and `<!-- end -->` of a page stands what `docs/figures/NAME.json` holds, in the
form that every command writes ({"rows": [{column: value}]}).  To publish a run, copy its file there, such as
`runs/quickstart/prune.json`, and call this.
"""

import json
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

DOCS = pathlib.Path(__file__).parent
TABLE = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.S)


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table with one column for each key of any row, in order of appearance; missing values are empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head, *body = [columns, *([_cell(row.get(key, "")) for key in columns] for row in rows)]
    lines = [" | ".join(head), "|".join(["---"] * len(columns)), *(" | ".join(cells) for cells in body)]
    return "".join(f"|{line}|\n" if line.startswith("---") else f"| {line} |\n" for line in lines)


def with_tables(text: str) -> str:
    """`text` of a page with every table made anew.

    Raises:
      FileNotFoundError: if a table has no file of figures.
    """

    def fill(found: re.Match[str]) -> str:
        rows = json.loads((DOCS / "figures" / f"{found[2]}.json").read_text("utf-8"))["rows"]
        return found[1] + markdown(rows) + found[3]

    return TABLE.sub(fill, text)


def outdated() -> list[pathlib.Path]:
    """Pages whose tables are not what their figures say."""
    pages = sorted(DOCS.glob("*.md"))
    return [page for page in pages if with_tables(page.read_text("utf-8")) != page.read_text("utf-8")]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return str(round(value, 3) + 0.0) if abs(value) < 10 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main(arguments: Sequence[str]) -> None:
    """Rewrites the pages that are not up to date, or with `--check` names them and exits with 1."""
    if arguments not in ([], ["--check"]):
        sys.exit("usage: python docs/tables.py [--check]")
    pages = outdated()
    if arguments and pages:
        sys.exit(f"not what docs/figures says: {', '.join(p.name for p in pages)}; run python docs/tables.py")
    for page in pages:
        page.write_text(with_tables(page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

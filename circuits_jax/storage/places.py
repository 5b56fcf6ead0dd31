"""Where a folder's companions lie, remembered in a way that outlives a move of either or both.

A place is written down twice, as it is called everywhere on this machine and as seen from the folder: the
first still holds when the folder alone is moved, the second when both are moved together, or copied to
another machine.
"""

import os
from pathlib import Path
from typing import Any

from circuits_jax.storage.files import read_json_if_any, write_json
from circuits_jax.storage.paths import as_path, is_remote, may_be_folder

RECORD = "places.json"


def remember(folder: Path, name: str, place: str | Path | None, **about: Any) -> None:
    """Writes down in `folder` where what it calls `name` lies.

    Args:
      folder: Gets `places.json`.
      name: What is there, such as "data.store".
      place: A local path, or a URL, which is the same from everywhere; None for neither.
      about: JSON values to keep beside it.
    """
    entry: dict[str, Any] = {"place": None if place is None else str(place), **about}
    if place is not None and not is_remote(place):
        target = as_path(place)
        entry["place"] = str(target)
        if not is_remote(folder):
            # Of real paths: what a link leads to has other folders around it.
            entry["from_here"] = os.path.relpath(target.resolve(), folder.resolve())
    known = read_json_if_any(folder / RECORD)
    if known.get(name) != entry:
        write_json(folder / RECORD, known | {name: entry})


def remembered(folder: Path, name: str) -> list[Path]:
    """Places where `name` may lie, the likeliest first; none if nothing was written down."""
    entry = about(folder, name)
    found = [as_path(entry["place"])] if isinstance(entry.get("place"), str) and _is_path(entry) else []
    if isinstance(entry.get("from_here"), str) and not is_remote(folder):
        found.append(as_path(os.path.normpath(folder.resolve() / entry["from_here"])))
    return found


def about(folder: Path, name: str) -> dict[str, Any]:
    """All that was written down of `name`."""
    entry = read_json_if_any(folder / RECORD).get(name)
    return entry if isinstance(entry, dict) else {}


def _is_path(entry: dict[str, Any]) -> bool:
    return may_be_folder(entry["place"])

"""Parts of a report that are files while it is made, so that an audit that was stopped goes on."""

from collections.abc import Callable
from pathlib import Path

from circuits_jax.storage.files import read_json_if_any, write_json
from circuits_jax.storage.tables import Report

Keep = Callable[[str, Callable[[], Report]], Report]
"""(name, how it is made) -> that part of a report."""


def keep_in(folder: Path) -> Keep:
    """Makes a part unless the folder holds it, and writes it there."""

    def keep(name: str, make: Callable[[], Report]) -> Report:
        path = folder / f"{name}.json"
        found = read_json_if_any(path)
        if not found:
            found = make()
            write_json(path, found)
        return found

    return keep

"""Files that are either whole or absent."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO


@contextlib.contextmanager
def write_aside(path: Path) -> Iterator[BinaryIO]:
    """Opens a binary file that becomes `path` only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(aside, "wb") as file:
            yield file
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, values: Any) -> None:
    """Writes `values` as indented JSON, whole or not at all."""
    with write_aside(path) as file:
        file.write(json.dumps(values, indent=1).encode() + b"\n")

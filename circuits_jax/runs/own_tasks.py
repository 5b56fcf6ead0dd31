"""Tasks of the user's own whose circuits lie in a run: which files they were cut with, and which may run."""

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits_jax.circuits.circuit import MANIFEST
from circuits_jax.storage.errors import CheckpointError
from circuits_jax.storage.files import read_json, write_aside
from circuits_jax.storage.paths import as_path, exists
from circuits_jax.tasks import Task, is_file, load_recorded

if TYPE_CHECKING:
    from circuits_jax.runs.run import Run

RECORD = "task_file"  # in a circuit's provenance
_PAIRS = ".jsonl"


def record(task: Task) -> dict[str, Any]:
    """What a circuit records of the file that its task was read from."""
    return {RECORD: {"name": task.file, "sha256": task.digest}} if task.digest else {}


def keep_pairs(task: Task, folder: Path) -> None:
    """Puts the JSONL file that a task was read from beside its circuit too, for when the file moves or goes.

    A program stays where it is: it runs only where the user names it.
    """
    if not task.file.endswith(_PAIRS):
        return
    copy = folder / f"{task.name}{_PAIRS}"
    with contextlib.suppress(OSError):  # gone since, or not to be written: the circuit is whole without
        content = as_path(task.file).read_bytes()
        known = exists(copy) and copy.read_bytes() == content
        if not known and hashlib.sha256(content).hexdigest() == task.digest:
            with write_aside(copy) as file:
                file.write(content)


def kept_pairs(run: "Run", name: str) -> list[str]:
    """Files of the task `name` that lie beside circuits of the run."""
    places = [folder / f"{name}{_PAIRS}" for folder in run.circuit_folders]
    return [str(place) for place in places if exists(place)]


def read_named(runs: Sequence["Run"], names: Sequence[str], changed: bool) -> dict[str, Task]:
    """The tasks of the files among `names`, as the user gave them, by file.

    Args:
      runs: Whose circuits say with which files they were cut.
      names: Tasks and files.
      changed: Whether Python files run that no circuit of the runs was cut with.

    Raises:
      TaskError: for a Python file that is none of those; or one that cannot be read.
    """
    digests = {digest for run in runs for digest in _recorded(run)}
    return {name: load_recorded(name, None if changed else digests) for name in names if is_file(name)}


def _recorded(run: "Run") -> set[str]:
    """Digests of the files that the run's circuits were cut with; a damaged circuit says nothing."""
    found = set()
    for folder in run.circuit_folders:
        try:
            found.add(read_json(folder / MANIFEST)["provenance"][RECORD]["sha256"])
        except (CheckpointError, KeyError, TypeError):
            continue
    return {digest for digest in found if isinstance(digest, str)}

"""People's names for nodes, as the page saves and loads them (page/notes.js)."""

import json
from pathlib import Path

from circuits_jax.storage.errors import CircuitError
from circuits_jax.storage.lfs import refuse_pointer
from circuits_jax.storage.paths import as_path

FORMAT, VERSION = "circuits_jax.annotations", 1
MAX_NOTE = 300


def read_annotations(path: Path) -> dict[str, dict[str, str]]:
    """{circuit: {node: note}} out of a file that the page saved.

    Raises:
      CircuitError: if the file cannot be read or is something else.
    """
    try:
        content = as_path(path).read_bytes()
        refuse_pointer(content, path, CircuitError)
        found = json.loads(content.decode("utf-8-sig"))
    except CircuitError:
        raise
    except OSError as error:
        raise CircuitError(f"cannot read the annotations {path}: {error.strerror}") from error
    except (RecursionError, ValueError) as error:
        raise CircuitError(f"the annotations {path} are not JSON ({error}); save them anew") from error
    if not isinstance(found, dict) or (found.get("format"), found.get("version")) != (FORMAT, VERSION):
        raise CircuitError(
            f"{path} holds no annotations of version {VERSION} (no format {FORMAT!r}); the page saves such a "
            "file by its button 'save notes'"
        )
    circuits = found.get("circuits")
    if not isinstance(circuits, dict) or not all(isinstance(notes, dict) for notes in circuits.values()):
        raise CircuitError(f"the annotations {path} lack a table of circuits; save them anew")
    return {
        key: {node: note[:MAX_NOTE] for node, note in notes.items() if isinstance(note, str) and note.strip()}
        for key, notes in circuits.items()
    }

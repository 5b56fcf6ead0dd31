"""Whether a model has other circuits for a circuit's task, as `exhaust` found.

See docs/method.md, "Backup circuits".
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from circuits_jax.circuits.circuit import Circuit
from circuits_jax.storage.filenames import EXHAUST, EXHAUST_FOLDER
from circuits_jax.storage.files import read_json_if_any

NOT_SEARCHED = (
    "Whether the model has other circuits for this task was not searched: python -m circuits_jax exhaust."
)


def digest(circuit: Circuit) -> str:
    """Names a circuit by its nodes, as the record does."""
    return hashlib.sha256("\n".join(sorted(map(str, circuit.nodes))).encode()).hexdigest()


def counted(count: int, exhausted: bool) -> str:
    """How many circuits there are, in words.

    Args:
      count: Of disjoint circuits that were found.
      exhausted: Whether the search for one more found none.
    """
    if not count:
        return "no circuit"
    if count == 1:
        return "one circuit" + (", and no other without its nodes" if exhausted else " or more")
    return f"{count} disjoint circuits" + ("" if exhausted else " or more")


def alternatives(workdir: Path, name: str, circuit: Circuit) -> str:
    """A sentence on other circuits of the task, out of its record in `workdir`, if that is of this circuit.

    Args:
      workdir: Of the run.
      name: Of the circuit's folder.
      circuit: It.
    """
    record = read_json_if_any(workdir / EXHAUST_FOLDER / name / EXHAUST)
    found: Sequence[str] = record.get("circuits", ())
    if digest(circuit) not in found:
        return NOT_SEARCHED
    words = counted(len(found), bool(record.get("exhausted")))
    return f"The model was found to have {words} for this task, under {record.get('ablation')} ablation."

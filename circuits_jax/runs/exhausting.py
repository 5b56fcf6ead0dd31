"""How many circuits does a run's model have for a task?  (docs/method.md, "Backup circuits")

`<workdir>/exhaust/<task>/` holds the circuits, in folders 1, 2, ..., their record and a page that shows them
side by side.  Circuits that are there already, of the same model and settings, are kept: a call that was
killed goes on.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits_jax.circuits.circuit import Circuit
from circuits_jax.circuits.pruning.exhaust import next_circuit, shares
from circuits_jax.circuits.pruning.jobs import Splits
from circuits_jax.circuits.pruning.nodes import Pruner
from circuits_jax.circuits.pruning.sweep import Progress, total_steps
from circuits_jax.config import PruneConfig
from circuits_jax.runs.own_tasks import record
from circuits_jax.runs.pages import INDEX, evidence_of
from circuits_jax.runs.pruning import finished, search_digest, settings_for, subject_of, task_splits
from circuits_jax.storage.errors import TaskError
from circuits_jax.storage.filenames import CIRCUITS, COMPARISON, EXHAUST, EXHAUST_FOLDER
from circuits_jax.storage.files import check_writable, read_json_if_any, write_json
from circuits_jax.storage.locks import locked
from circuits_jax.storage.paths import exists
from circuits_jax.storage.progress import ProgressBar
from circuits_jax.tasks import Pairs, Task
from circuits_jax.training.device_memory import PRUNING, memory_told
from circuits_jax.training.multihost.processes import is_primary
from circuits_jax.viewer.alternatives import counted, digest
from circuits_jax.viewer.assembly import PageSettings, RunFigures, build_report, write_report
from circuits_jax.viewer.circuit_page.vocabulary import embed_vocabulary

if TYPE_CHECKING:
    from circuits_jax.runs.run import Run

LOCK = ".exhaust.lock"
AFTER = "after"  # in a circuit's provenance: digests of the circuits whose nodes were banned


@dataclasses.dataclass(frozen=True)
class Exhausted:
    """The disjoint circuits of one task.

    Attributes:
      task: Its name.
      circuits: In the order found; no node is in two of them.
      exhausted: Whether the search for one more found none.
      why: Why there are no more.
      rows: What each explains; see `shares`.
      page: Where they are shown, if there are any.
    """

    task: str
    circuits: tuple[Circuit, ...]
    exhausted: bool
    why: str
    rows: tuple[dict[str, Any], ...]
    page: Path | None

    @property
    def words(self) -> str:
        """How many there are, and why no more."""
        return f"{counted(len(self.circuits), self.exhausted)}; {self.why}"


def exhaust_tasks(run: "Run", tasks: Sequence[Task], prune: PruneConfig, most: int) -> list[Exhausted]:
    """The disjoint circuits of each task, at most `most` of each.

    Args:
      run: With a workdir and a corpus.
      tasks: Of different names.
      prune: How to prune; the circuit that `prune` cut with the same settings is the first.
      most: Circuits of one task.

    Raises:
      LockError: if another process does the same in this workdir.
      ConfigError: for a run without a workdir or a corpus.
    """
    prune = settings_for(run, tasks, prune)
    check_writable(run.folder / EXHAUST_FOLDER)
    with locked(run.folder, LOCK), memory_told(PRUNING):
        pruner = Pruner(subject_of(run, prune), prune)
        return [_exhaust(run, pruner, task, most) for task in tasks]


def exhaust_table(found: Sequence[Exhausted]) -> list[dict[str, Any]]:
    """One row a circuit, or a task that has none."""
    rows: list[dict[str, Any]] = []
    for each in found:
        if not each.circuits:
            rows.append({"task": each.task, "refused": each.why})
        rows += [{"task": each.task, **row} for row in each.rows]
    return rows


def _exhaust(run: "Run", pruner: Pruner, task: Task, most: int) -> Exhausted:
    folder, prune = run.folder / EXHAUST_FOLDER / task.name, pruner.config
    try:
        splits = task_splits(run, task, prune)
    except TaskError as error:
        return Exhausted(task.name, (), False, str(error), (), None)
    circuits: list[Circuit] = []
    why, ended = f"no more than {most} were looked for", False
    while len(circuits) < most and not ended:
        place = folder / str(len(circuits) + 1)
        circuit = _saved(run, place, prune, splits, circuits)
        if circuit is None:
            after = [digest(each) for each in circuits]
            key = search_digest(run, prune, [pairs.digest for pairs in splits], after)
            there = _ended(folder / EXHAUST, key)
            found = there or _search(run, pruner, splits, circuits, folder / ".rungs" / key)
            if isinstance(found, str):
                why, ended = found, True
                continue
            provenance = {**found.provenance, **record(task), "corpus": run.corpus.hash, AFTER: after}
            circuit = dataclasses.replace(found, provenance=provenance)
            circuit.save(place)
        circuits.append(circuit)
    return _report(run, pruner, splits, circuits, (why, ended), folder)


def _saved(
    run: "Run", place: Path, prune: PruneConfig, splits: Splits, found: Sequence[Circuit]
) -> Circuit | None:
    """The circuit of an earlier call in `place`, if it was found after the same others; the first may also be
    that of `prune`, which is copied there."""
    for each in [place] if found else [place, run.folder / CIRCUITS / splits.train.task]:
        circuit = finished(each, prune, run.model.hash, splits)
        if (
            circuit is not None
            and circuit.provenance["met_target"]
            and circuit.provenance.get(AFTER, []) == [digest(other) for other in found]
        ):
            if each != place:
                circuit.save(place)
            return circuit
    return None


def _search(
    run: "Run", pruner: Pruner, splits: Splits, found: Sequence[Circuit], store: Path
) -> Circuit | str:
    title = f"{splits.train.task}, circuit {len(found) + 1}"
    steps = total_steps(pruner.config)
    with ProgressBar(total=steps, desc=title, unit="step", mininterval=1, disable=not is_primary()) as bar:
        return next_circuit(pruner, splits, found, store, Progress(bar))


def _ended(path: Path, key: str) -> str | None:
    """Why an earlier call found no more circuits in this very search."""
    ended = read_json_if_any(path).get("ended") or {}
    return str(ended["why"]) if ended.get("search") == key else None


def _report(
    run: "Run",
    pruner: Pruner,
    splits: Splits,
    circuits: Sequence[Circuit],
    end: tuple[str, bool],
    folder: Path,
) -> Exhausted:
    """Measures the circuits, and writes their record and page."""
    (why, ended), prune, task = end, pruner.config, splits.train.task
    if not circuits:
        return Exhausted(task, (), ended, why, (), None)
    measured, of_model = shares(pruner.subject, circuits, prune, splits)
    rows = tuple(
        {
            "circuit": f"{i + 1} of {len(circuits)}",
            "nodes": len(circuit.nodes),
            "edges": len(circuit.edges),
            "ablation": circuit.ablation,
            "test loss": circuit.metrics["test/calibrated_loss"],
            **{name: "" if value is None else value for name, value in row.items()},
        }
        for i, (circuit, row) in enumerate(zip(circuits, measured, strict=True))
    )
    found = Exhausted(task, tuple(circuits), ended, why, rows, folder / COMPARISON)
    after = [digest(circuit) for circuit in circuits]
    key = search_digest(run, prune, [pairs.digest for pairs in splits], after)
    write_json(
        folder / EXHAUST,
        {
            "task": task,
            "ablation": prune.ablation,
            "circuits": after,
            "exhausted": ended,
            "ended": {"search": key, "why": why} if ended else None,
            "words": found.words,
            "rows": measured,
            **of_model,
        },
    )
    _write_page(run, found, folder / COMPARISON, splits.test)
    return found


def _write_page(run: "Run", found: Exhausted, place: Path, pairs: Pairs) -> None:
    count = len(found.circuits)
    keys = [f"{found.task} {i + 1}" for i in range(count)]
    home = f"../../{INDEX}" if exists(run.folder / INDEX) else None
    settings = PageSettings(
        keys,
        {run.tokenizer.hash: embed_vocabulary(run.tokenizer)},
        others={key: f"{place + 1} of {found.words}." for place, key in enumerate(keys)},
        home=home,
        comparison=count > 1,
    )
    shown = [(circuit, evidence_of(run, circuit, pairs)) for circuit in found.circuits]
    title = f"{found.task}: {counted(count, found.exhausted)} of {run.name}"
    figures = RunFigures(results=found.rows, summary={"found": found.words})
    write_report(place, build_report(title, shown, figures, settings))

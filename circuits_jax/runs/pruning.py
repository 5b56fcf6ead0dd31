"""Cuts the circuits of tasks out of a run's model, and keeps them in its workdir.

A circuit that is there already, of the same model and settings, is kept, and so are the finished parts of a
search: a call that was killed goes on when it is made again.
"""

import contextlib
import dataclasses
import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits_jax.circuits.ablation.means import Subject, reference_activations
from circuits_jax.circuits.circuit import MANIFEST, Circuit, load_circuit
from circuits_jax.circuits.full_model import GOOD, known_of
from circuits_jax.circuits.pruning.assembly import make_circuit
from circuits_jax.circuits.pruning.jobs import Splits
from circuits_jax.circuits.pruning.nodes import Pruner, check_known
from circuits_jax.circuits.pruning.sweep import Progress, sweep, total_steps
from circuits_jax.config import PruneConfig, to_dict
from circuits_jax.config.identity import identity
from circuits_jax.runs.corpora import reference_windows
from circuits_jax.runs.own_tasks import keep_pairs, record
from circuits_jax.storage.errors import CircuitError, TaskError
from circuits_jax.storage.filenames import CIRCUITS
from circuits_jax.storage.locks import locked
from circuits_jax.storage.progress import ProgressBar
from circuits_jax.tasks import TASKS, Pairs, Task, build_pairs, get_task
from circuits_jax.training.device_memory import PRUNING, memory_told
from circuits_jax.training.multihost.processes import is_primary

if TYPE_CHECKING:
    from circuits_jax.runs.run import Run

LOCK = ".prune.lock"  # of a folder of circuits
# Settings that do not change which circuit is found.
_OF_NO_CONSEQUENCE = ("tasks", "batching", "learnt")
# Settings that were not there from the beginning.
_OPTIONS = ("final_resid",)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One task: its circuit, or why there is none, and the pairs whose figures are reported."""

    task: str
    circuit: Circuit | None
    refusal: str | None
    test: Pairs | None


def prune_task(run: "Run", task: Task, prune: PruneConfig, allow_unlearned: bool = False) -> Circuit:
    """The circuit of one task, saved in the run's workdir.

    Raises:
      TaskError: if the model knows nothing of the task (unless `allow_unlearned`), or the task cannot be
        built under its tokenizer.
      ConfigError, LockError, UserError: as `prune_tasks` does.
    """
    (outcome,) = prune_tasks(run, [task], prune, allow_unlearned)
    if outcome.circuit is None:
        raise TaskError(outcome.refusal or f"no circuit was found for {task.name}")
    return outcome.circuit


def prune_tasks(
    run: "Run",
    tasks: Sequence[Task],
    prune: PruneConfig,
    allow_unlearned: bool = False,
    folder: Path | None = None,
) -> list[Outcome]:
    """The circuits of several tasks; each is saved under `<workdir>/circuits/<task>` as it is found.

    Args:
      run: With a workdir and a corpus.
      tasks: Of different names.
      prune: How to prune.  Circuits record the tasks' names or files in place of its `tasks`.
      allow_unlearned: Whether tasks that the model knows nothing of are pruned all the same.
      folder: For the circuits, in place of `<workdir>/circuits`.

    Raises:
      TaskError: if two tasks have one name.
      ConfigError: for a run without a workdir or a corpus.
      LockError: if circuits are missing and another process searches for some there.
      UserError: if some are missing and the folder cannot be written; nothing was searched for then.
    """
    _check_names(tasks)
    prune = settings_for(run, tasks, prune)
    folder = folder or run.folder / CIRCUITS
    outcomes: dict[str, Outcome] = {}
    missing: dict[str, Splits] = {}
    for task in tasks:
        try:
            splits = task_splits(run, task, prune)
            circuit = finished(folder / task.name, prune, run.model.hash, splits)
            if circuit is not None and prune.learnt is not None and not allow_unlearned:
                check_known(task.name, circuit.metrics, prune)  # it may have been cut when less was needed
        except TaskError as error:
            outcomes[task.name] = Outcome(task.name, None, str(error), None)
            continue
        outcomes[task.name] = Outcome(task.name, circuit, None, splits.test)
        if circuit is None:
            missing[task.name] = splits
    if missing:
        files = {task.name: record(task) for task in tasks}
        with locked(folder, LOCK) if is_primary() else contextlib.nullcontext(), memory_told(PRUNING):
            for name, splits in list(missing.items()):  # another process may have found some until now
                if circuit := finished(folder / name, prune, run.model.hash, splits):
                    outcomes[name] = dataclasses.replace(outcomes[name], circuit=circuit)
                    del missing[name]
            search = _search(run, prune, missing, files, allow_unlearned, folder) if missing else ()
            for outcome in search:
                outcomes[outcome.task] = outcome
                _keep_pairs(tasks, outcomes, folder)
    _keep_pairs(tasks, outcomes, folder)
    return [outcomes[task.name] for task in tasks]


def _keep_pairs(tasks: Sequence[Task], outcomes: Mapping[str, Outcome], folder: Path) -> None:
    for task in tasks:
        if outcomes[task.name].circuit is not None:
            keep_pairs(task, folder / task.name)


def settings_for(run: "Run", tasks: Sequence[Task], prune: PruneConfig) -> PruneConfig:
    """The settings as circuits of these tasks record them."""
    final = run.whole_config.prune.final_resid if prune.final_resid is None else prune.final_resid
    names = tuple(task.file or task.name for task in tasks)
    return dataclasses.replace(prune, tasks=names, final_resid=bool(final))


def tasks_of(names: Sequence[str]) -> list[Task]:
    """Tasks by their names or files; "all" alone stands for the twenty.

    Raises:
      TaskError: for an unknown one.
    """
    return [get_task(name) for name in (TASKS if list(names) == ["all"] else names)]


def task_splits(run: "Run", task: Task, prune: PruneConfig) -> Splits:
    """The pairs that a task is pruned on.

    Raises:
      TaskError: if the task cannot be built under the model's tokenizer.
    """
    counts = prune.train_pairs, prune.select_pairs, prune.test_pairs
    return Splits(
        *(
            build_pairs(task, run.tokenizer, split, count, prune.seed, run.model.config.n_ctx)
            for split, count in zip(Splits._fields, counts, strict=True)
        )
    )


def check_unchanged(circuit: Circuit, split: str, pairs: Pairs) -> None:
    """Raises TaskError unless a circuit was cut, chosen or judged on these very pairs, as far as it says.

    Those of circuits of two splits cannot be drawn again.

    Args:
      circuit: As saved.
      split: "train" (cut on), "select" (chosen by) or "test" (judged on).
      pairs: Of its task as that is now, as many as then and by the same seed.
    """
    recorded = dict(zip(Splits._fields, circuit.provenance.get("pairs") or (), strict=False))
    if not circuit.of_two_splits and recorded.get(split, pairs.digest) != pairs.digest:
        what, done = {
            "train": ("pairs", "cut on"),
            "select": ("select pairs", "chosen by"),
            "test": ("test pairs", "judged on"),
        }[split]
        raise TaskError(
            f"the {what} of {circuit.task} are not those that its circuit was {done} (the task, or its "
            "file, has changed since); prune again"
        )


def pruning_table(outcomes: Sequence[Outcome]) -> list[dict[str, str | float]]:
    """One row a task: full model and circuit on test pairs, and whether select pairs meet the target.

    "model" is what the audit flags it as, too, where the full model itself does not meet it.
    """
    rows = []
    for outcome in outcomes:
        row: dict[str, str | float] = {"task": outcome.task}
        if outcome.circuit is None:
            row["refused"] = outcome.refusal or ""
        else:
            figures = outcome.circuit.metrics
            row |= {
                "model loss": figures["full/test/loss"],
                "model accuracy": figures["full/test/accuracy"],
                "nodes": int(figures["nodes"]),
                "edges": int(figures["edges"]),
                "ablation": outcome.circuit.ablation,
                "circuit loss": figures["test/calibrated_loss"],
                "circuit accuracy": figures["test/calibrated_accuracy"],
                "uncalibrated loss": figures["test/loss"],
                "uncalibrated accuracy": figures["test/accuracy"],
                "target": "met" if outcome.circuit.provenance["met_target"] else "missed",
            }
            if (flag := known_of(outcome.circuit)["flag"]) not in (None, GOOD):
                row["model"] = flag
        rows.append(row)
    return rows


def subject_of(run: "Run", prune: PruneConfig) -> Subject:
    """The run's model with what its removed nodes are held at.

    Raises:
      ConfigError: for a run without a corpus.
    """
    windows = reference_windows(run.corpus, run.whole_config, prune)
    means = reference_activations(run.model, windows, prune.ablation, bool(prune.final_resid))
    return Subject(run.model, means)


def cut_command(run: "Run") -> str:
    """What a reader without circuits is told to do."""
    return f"python -m circuits_jax prune --workdir={shlex.quote(str(run.folder))}"


def _check_names(tasks: Sequence[Task]) -> None:
    """Raises TaskError if two different tasks would have the same folder."""
    known = dict(TASKS)
    for task in tasks:
        if known.setdefault(task.name, task) != task:
            raise TaskError(
                f"two tasks are called {task.name!r}, and a circuit's folder has its task's name; "
                "call your own otherwise than the built-in ones and each other"
            )


def search_digest(run: "Run", prune: PruneConfig, *others: object) -> str:
    """A digest of what decides which circuit is found: the model, the settings, and `others`."""
    settings = json.dumps([run.model.hash, _identity(to_dict(prune)), *others])
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


def _search(
    run: "Run",
    prune: PruneConfig,
    tasks: Mapping[str, Splits],
    files: Mapping[str, Mapping[str, Any]],
    allow_unlearned: bool,
    folder: Path,
) -> Iterator[Outcome]:
    """Prunes for tasks that have no circuit yet; circuits record what `files` says of their task's file."""
    subject = subject_of(run, prune)
    pruner = Pruner(subject, prune)
    store = folder / ".rungs" / search_digest(run, prune)
    steps = len(tasks) * total_steps(prune)
    with ProgressBar(total=steps, desc="prune", unit="step", mininterval=1, disable=not is_primary()) as bar:
        progress = Progress(bar)
        for name, found in sweep(pruner, tasks, store, progress, allow_unlearned):
            if isinstance(found, TaskError):
                yield Outcome(name, None, str(found), None)
                continue
            progress(0, "importance")
            circuit = make_circuit(found.pruned, subject, prune, tasks[name], found.chosen)
            provenance = {**circuit.provenance, **files[name], "corpus": run.corpus.hash}
            circuit = dataclasses.replace(circuit, provenance=provenance)
            circuit.save(folder / name)
            progress.saved(name, len(circuit.nodes), len(circuit.edges))
            yield Outcome(name, circuit, None, tasks[name].test)


def finished(folder: Path, prune: PruneConfig, model_hash: str, splits: Splits) -> Circuit | None:
    """The circuit of an earlier call with the same model, settings and pairs, if there is a whole one."""
    if not (folder / MANIFEST).exists():
        return None
    try:
        circuit = load_circuit(folder)
    except CircuitError as error:
        print(f"{error}; making it anew")
        return None
    pairs = [split.digest for split in splits]
    same = circuit.model_hash == model_hash and _identity(circuit.provenance.get("prune", {})) == _identity(
        to_dict(prune)
    )
    # Circuits of before pairs were recorded say nothing of them.
    return circuit if same and circuit.provenance.get("pairs", pairs) == pairs else None


def _identity(prune: Mapping[str, object]) -> dict[str, object]:
    """What decides which circuit is found; an option that is off is as good as absent, as it once was."""
    return {
        key: value
        for key, value in identity(PruneConfig, prune).items()
        if key not in _OF_NO_CONSEQUENCE and (value or key not in _OPTIONS)
    }

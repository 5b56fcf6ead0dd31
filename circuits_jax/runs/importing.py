"""Takes in what others published: a checkpoint as a workdir of ours, and a circuit of its model."""

import dataclasses
from pathlib import Path

import numpy as np

from circuits_jax import released
from circuits_jax.circuits.circuit import Circuit, Entry
from circuits_jax.circuits.graph import unembedding_entries
from circuits_jax.released.remote import fetched_file
from circuits_jax.released.viz.means import PUBLISHED
from circuits_jax.runs.by_hand import corpus_means
from circuits_jax.runs.own_tasks import keep_pairs, record
from circuits_jax.runs.pruning import LOCK, task_splits
from circuits_jax.runs.run import Run
from circuits_jax.storage.errors import CircuitError, TaskError
from circuits_jax.storage.filenames import CIRCUITS
from circuits_jax.storage.locks import locked
from circuits_jax.storage.paths import as_path
from circuits_jax.tasks import Task


def import_model(source: str, workdir: Path, tokenizer: str | None = None, strict: bool = True) -> Path:
    """A workdir whose trained model is the checkpoint `source`; see `released.as_workdir`.

    Raises:
      CheckpointError: if the checkpoint or its tokenizer cannot be read, or `workdir` holds a run already.
      LockError: if another process trains or imports there.
      UserError: if `workdir` cannot be written; nothing was loaded then.
    """
    return released.as_workdir(source, as_path(workdir), tokenizer, strict)


def import_circuit(
    source: str | Path, task: Task, run: Run, strict: bool = True, means: Path | None = None
) -> Path:
    """Writes a published circuit among the circuits of a run; returns its folder.

    Args:
      source: The circuit's `viz_data.pt`: a file, hf:owner/name[@revision]/path/to/file, or a URL.
      task: What it was cut for.
      run: Of the model, with a workdir.
      strict: As `load` has it.
      means: A file of what removed nodes are held at; by default the one published with the circuit, if it is
        there, else they are taken over the run's corpus.

    Raises:
      UserError: if the file cannot be read, it is not of the run's model, the run has a circuit of that task,
        its folder cannot be written, or another process cuts circuits there; nothing was fetched then.
    """
    circuits = run.folder / CIRCUITS
    folder = circuits / task.name
    with locked(circuits, LOCK):
        if folder.exists():
            raise CircuitError(f"{folder} is there already; move it away, or name another workdir")
        _take_in(source, task, run, strict, means, folder)
    return folder


def _take_in(
    source: str | Path, task: Task, run: Run, strict: bool, means: Path | None, folder: Path
) -> None:
    """Writes a published circuit to `folder`; see `import_circuit`."""
    with fetched_file(source, PUBLISHED) as path:
        circuit = released.import_viz(path, task.name, run.model, means, strict).circuit
    if circuit.ablation != "mean":
        found = corpus_means(run)
        means_there = {site: np.asarray(found[site]) for site in circuit.means}
        circuit = dataclasses.replace(circuit, means=means_there, ablation="mean")
    prune = {**circuit.provenance["prune"], "tasks": [task.file or task.name]}
    provenance = {**circuit.provenance, "prune": prune, **record(task)}
    answers = _answers(run, task, circuit)
    dataclasses.replace(circuit, unembedding=answers, provenance=provenance).save(folder)
    keep_pairs(task, folder)


def _answers(run: Run, task: Task, circuit: Circuit) -> tuple[Entry, ...]:
    """Unembedding entries of the answers of the circuit's task, none if this tokenizer cannot build it."""
    try:
        train = task_splits(run, task, run.whole_config.prune).train
    except TaskError:
        return ()
    model = run.model
    return unembedding_entries(model.config, model.params, circuit.nodes, np.unique(train.answers))

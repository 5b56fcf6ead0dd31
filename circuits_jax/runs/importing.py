"""Takes in what others published: a checkpoint as a workdir of ours, and a circuit of its model."""

import dataclasses
from pathlib import Path

from circuits_jax import released
from circuits_jax.runs.by_hand import corpus_means
from circuits_jax.runs.opening import load_workdir
from circuits_jax.runs.pruning import CIRCUITS
from circuits_jax.storage.errors import CircuitError
from circuits_jax.tasks import get_task


def import_model(source: str, workdir: Path, tokenizer: str | None = None, strict: bool = True) -> Path:
    """A workdir whose trained model is the checkpoint `source`; see `released.as_workdir`.

    Raises:
      CheckpointError: if the checkpoint or its tokenizer cannot be read, or `workdir` holds a run already.
    """
    return released.as_workdir(source, workdir, tokenizer, strict)


def import_circuit(path: Path, task: str, workdir: Path, strict: bool = True) -> Path:
    """Writes the published circuit `path` among the circuits of `workdir`; returns its folder.

    Raises:
      UserError: if there is no such task, the file cannot be read, it is not of the workdir's model, or the
        workdir has a circuit of that task.
    """
    task = get_task(task).name
    folder = workdir / CIRCUITS / task
    if folder.exists():
        raise CircuitError(f"{folder} is there already; delete it, or name another --workdir")
    run = load_workdir(workdir)
    circuit = released.import_viz(path, task, run.model, strict=strict).circuit
    dataclasses.replace(circuit, means=corpus_means(run), ablation="mean").save(folder)
    return folder

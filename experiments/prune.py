"""Cuts the circuits of the configured tasks out of a trained model.

    python -m experiments.prune --workdir=runs/mine --tasks=all --trials=8

A circuit that is there already, of the same model and settings, is kept, and so are the finished parts of a
search: a command that was killed goes on when it is given again.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tqdm import tqdm

from circuits_jax.circuits.ablation import Means, reference_activations
from circuits_jax.circuits.assemble import make_circuit
from circuits_jax.circuits.circuit import MANIFEST, Circuit, load_circuit
from circuits_jax.circuits.prune import Pruner
from circuits_jax.circuits.sweep import Progress, Splits, sweep, total_steps
from circuits_jax.config import PruneConfig, to_dict
from circuits_jax.data.corpus import Corpus
from circuits_jax.errors import CircuitError, TaskError
from circuits_jax.model.fingerprint import model_hash
from circuits_jax.tasks import TASKS, Pairs, Task, build_pairs, get_task
from circuits_jax.training.mesh import data_mesh
from circuits_jax.training.run import Run, load_run
from experiments import common
from experiments.pretrain import prepare_corpus

# Settings that do not change which circuit is found.
_OF_NO_CONSEQUENCE = ("tasks", "batching")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One task: its circuit, or why there is none, and the pairs it was judged on."""

    task: str
    circuit: Circuit | None
    refusal: str | None
    heldout: Pairs | None


def prune_tasks(run: Run, corpus: Corpus, prune: PruneConfig, workdir: Path) -> list[Outcome]:
    """Prunes for every configured task; saves each circuit under `<workdir>/circuits/<task>`."""
    tasks = [get_task(name) for name in prune.tasks]
    _check_names(tasks)
    identity = model_hash(run.config.model, run.params)
    outcomes: dict[str, Outcome] = {}
    missing: dict[str, Splits] = {}
    for task in tasks:
        try:
            train, heldout = (
                build_pairs(task, run.tokenizer, split, count, prune.seed, run.config.model.n_ctx)
                for split, count in (("train", prune.train_pairs), ("heldout", prune.heldout_pairs))
            )
        except TaskError as error:
            outcomes[task.name] = Outcome(task.name, None, str(error), None)
            continue
        circuit = _finished(workdir / "circuits" / task.name, prune, identity, (train, heldout))
        outcomes[task.name] = Outcome(task.name, circuit, None, heldout)
        if circuit is None:
            missing[task.name] = train, heldout
    if missing:
        outcomes |= _search(run, corpus, prune, workdir, missing)
    return [outcomes[task.name] for task in tasks]


def _check_names(tasks: Sequence[Task]) -> None:
    """Raises TaskError if two different tasks would have the same folder."""
    known = dict(TASKS)
    for task in tasks:
        if known.setdefault(task.name, task) != task:
            raise TaskError(
                f"two tasks are called {task.name!r}, and a circuit's folder has its task's name; "
                "call your own otherwise than the built-in ones and each other"
            )


def _search(
    run: Run, corpus: Corpus, prune: PruneConfig, workdir: Path, tasks: Mapping[str, Splits]
) -> dict[str, Outcome]:
    """Prunes for tasks that have no circuit yet."""
    params = jax.device_put(run.params)
    means = _means(run, params, corpus, prune)
    pruner = Pruner(run.model, params, means, prune, data_mesh(prune.batch_pairs, "prune.batch_pairs"))
    settings = json.dumps([model_hash(run.config.model, run.params), _settings(to_dict(prune))])
    store = workdir / "circuits" / ".rungs" / hashlib.sha256(settings.encode()).hexdigest()[:16]
    outcomes = {}
    with tqdm(total=len(tasks) * total_steps(prune), desc="prune", unit="step", mininterval=1) as bar:
        progress = Progress(bar)
        for name, found in sweep(pruner, tasks, store, progress):
            train, heldout = tasks[name]
            if isinstance(found, TaskError):
                outcomes[name] = Outcome(name, None, str(found), None)
                continue
            progress(0, "edges and importance")
            circuit = make_circuit(found, run.model, params, means, prune, train, heldout, run.tokenizer.hash)
            circuit.save(workdir / "circuits" / name)
            progress.saved(name, len(circuit.nodes), len(circuit.edges))
            outcomes[name] = Outcome(name, circuit, None, heldout)
    return outcomes


def table(outcomes: list[Outcome]) -> list[dict[str, str | float]]:
    """One row a task: the full model and the circuit, on held-out pairs."""
    rows = []
    for outcome in outcomes:
        row: dict[str, str | float] = {"task": outcome.task}
        if outcome.circuit is None:
            row["refused"] = outcome.refusal or ""
        else:
            figures = outcome.circuit.metrics
            row |= {
                "model loss": figures["full/heldout/loss"],
                "model accuracy": figures["full/heldout/accuracy"],
                "nodes": int(figures["nodes"]),
                "edges": int(figures["edges"]),
                "circuit loss": figures["heldout/calibrated_loss"],
                "circuit accuracy": figures["heldout/calibrated_accuracy"],
                "uncalibrated loss": figures["heldout/loss"],
                "uncalibrated accuracy": figures["heldout/accuracy"],
                "target": "met" if outcome.circuit.provenance["met_target"] else "missed",
            }
        rows.append(row)
    return rows


def _means(run: Run, params: jax.Array, corpus: Corpus, prune: PruneConfig) -> Means:
    """Reference activations over the first `mean_batches` batches of the shuffled training windows."""
    size = run.config.train.batch_size
    order = np.random.RandomState(prune.seed).permutation(len(corpus.train))[: prune.mean_batches * size]
    tokens = corpus.train.tokens[np.resize(order, prune.mean_batches * size), :-1]
    batches = jnp.asarray(tokens).reshape(prune.mean_batches, size, -1)
    return reference_activations(run.model, params, batches, prune.ablation)


def _finished(folder: Path, prune: PruneConfig, identity: str, splits: Splits) -> Circuit | None:
    """The circuit of an earlier call with the same model, settings and pairs, if there is a whole one."""
    if not (folder / MANIFEST).exists():
        return None
    try:
        circuit = load_circuit(folder)
    except CircuitError as error:
        print(f"{error}; making it anew")
        return None
    pairs = [split.digest for split in splits]
    same = circuit.model_hash == identity and _settings(circuit.provenance.get("prune", {})) == _settings(
        to_dict(prune)
    )
    # Circuits of before pairs were recorded say nothing of them.
    return circuit if same and circuit.provenance.get("pairs", pairs) == pairs else None


def _settings(prune: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in prune.items() if key not in _OF_NO_CONSEQUENCE}


def _with_flags(prune: PruneConfig) -> PruneConfig:
    """The settings with those that --tasks, --trials and --seeds override."""
    given = {name: flags.FLAGS[name].value for name in ("tasks", "trials", "seeds")}
    given = {name: value for name, value in given.items() if value is not None}
    if "tasks" in given:
        given["tasks"] = tuple(TASKS) if given["tasks"] == ["all"] else tuple(given["tasks"])
    return dataclasses.replace(prune, **given)


def main() -> None:
    """The command."""
    workdir = common.workdir()
    prune = _with_flags(common.read_config().prune)
    run = load_run(workdir)
    rows = table(prune_tasks(run, prepare_corpus(run.config, workdir), prune, workdir))
    common.report(rows, workdir / "prune.json")


if __name__ == "__main__":
    flags.DEFINE_list("tasks", None, "Names or files of tasks, or all; instead of prune.tasks.")
    flags.DEFINE_integer("trials", None, "Settings tried for each task; instead of prune.trials.")
    flags.DEFINE_integer("seeds", None, "Seeds tried with each; instead of prune.seeds.")
    common.run(main)

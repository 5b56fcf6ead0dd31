"""Cuts the circuits of the configured tasks out of a trained model.

    python -m experiments.prune --workdir=runs/mine --config.prune.tasks='("bracket_counting",)'

A circuit that is there already, of the same model and settings, is kept.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.circuits.ablation import Means, reference_activations
from circuits_jax.circuits.assemble import make_circuit
from circuits_jax.circuits.circuit import MANIFEST, Circuit, load_circuit
from circuits_jax.circuits.prune import Pruner
from circuits_jax.config import PruneConfig, to_dict
from circuits_jax.data.corpus import Corpus
from circuits_jax.errors import CircuitError, TaskError
from circuits_jax.model.fingerprint import model_hash
from circuits_jax.tasks import Pairs, build_pairs, get_task
from circuits_jax.training.mesh import data_mesh
from circuits_jax.training.run import Run, load_run
from experiments import common
from experiments.pretrain import prepare_corpus


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
    params = jax.device_put(run.params)
    means: Means | None = None
    pruner: Pruner | None = None
    identity = model_hash(run.config.model, run.params)
    outcomes = []
    for task in tasks:
        folder = workdir / "circuits" / task.name
        try:
            train, heldout = (
                build_pairs(task, run.tokenizer, split, count, prune.seed, run.config.model.n_ctx)
                for split, count in (("train", prune.train_pairs), ("heldout", prune.heldout_pairs))
            )
            circuit = _finished(folder, prune, identity)
            if circuit is None:
                if pruner is None:
                    means = _means(run, params, corpus, prune)
                    mesh = data_mesh(prune.batch_pairs, "prune.batch_pairs")
                    pruner = Pruner(run.model, params, means, prune, mesh)
                pruned = pruner.prune(train, heldout)
                circuit = make_circuit(
                    pruned, run.config.model, params, means, prune, train, run.tokenizer.hash
                )
                circuit.save(folder)
            outcomes.append(Outcome(task.name, circuit, None, heldout))
        except TaskError as error:
            outcomes.append(Outcome(task.name, None, str(error), None))
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
                "uncalibrated": figures["heldout/loss"],
                "circuit accuracy": figures["heldout/accuracy"],
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


def _finished(folder: Path, prune: PruneConfig, identity: str) -> Circuit | None:
    """The circuit of an earlier call with the same model and settings, if there is a whole one."""
    if not (folder / MANIFEST).exists():
        return None
    try:
        circuit = load_circuit(folder)
    except CircuitError as error:
        print(f"{error}; making it anew")
        return None
    settings = {key: value for key, value in to_dict(prune).items() if key != "tasks"}
    earlier = {key: value for key, value in circuit.provenance["prune"].items() if key != "tasks"}
    return circuit if circuit.model_hash == identity and settings == earlier else None


def main() -> None:
    """The command."""
    workdir = common.workdir()
    prune = common.read_config().prune
    run = load_run(workdir)
    rows = table(prune_tasks(run, prepare_corpus(run.config, workdir), prune, workdir))
    common.report(rows, workdir / "prune.json")


if __name__ == "__main__":
    common.run(main)

"""Controls: what the same pruning finds where there is nothing to find, and with other seeds.

See docs/method.md, "Audit".

A control is pruned although its full model knows nothing of its task: masks can make circuits of noise, and
that they do not is what a control is to show.
"""

import dataclasses
from collections.abc import Iterable

import jax
import numpy as np
import optax

from circuits_jax.circuits.ablation.means import Subject, reference_activations
from circuits_jax.circuits.audit.random_circuits import overlaps
from circuits_jax.circuits.masks import Masks, full_masks, size
from circuits_jax.circuits.pruning.jobs import Splits
from circuits_jax.circuits.pruning.nodes import Pruner
from circuits_jax.config import ModelConfig, SparsityConfig
from circuits_jax.model.model import Model
from circuits_jax.model.transformer import Params, init_params
from circuits_jax.sparsity.projection import keep_largest
from circuits_jax.sparsity.schedules import L0Schedule
from circuits_jax.storage.tables import Report
from circuits_jax.tasks.task import Pairs


def random_model(config: ModelConfig, sparsity: SparsityConfig, seed: int) -> Params:
    """Fresh parameters, each tensor at the budget that training ended with."""
    params = jax.jit(init_params, static_argnums=0)(config, jax.random.key(seed))
    cut = keep_largest(
        L0Schedule(sparsity.target), sparsity.floor, sparsity.sparse_biases, sparsity.sparse_embeddings
    )
    unchanged = jax.tree.map(np.zeros_like, params)
    updates, _ = jax.jit(cut.update)(unchanged, cut.init(params), params)
    return optax.apply_updates(params, updates)


def nonsense(pairs: Pairs, seed: int) -> Pairs:
    """Same prompts; each pair's answers are swapped at random."""
    exchanged = np.random.RandomState(seed).randint(0, 2, (len(pairs.answers), 1)) == 1
    answers = np.where(exchanged, pairs.answers[:, ::-1], pairs.answers)
    return dataclasses.replace(pairs, task=f"{pairs.task} (nonsense)", answers=answers)


def empty_controls(
    pruner: Pruner,
    model: Model,
    sparsity: SparsityConfig,
    corpus: np.ndarray,
    splits: Splits,
    seed: int,
) -> dict[str, Report]:
    """The two controls in which there is nothing to find.

    Args:
      pruner: Of the model whose circuit is judged, with that circuit's settings.
      model: That model.
      sparsity: What its weights were trained to.
      corpus: int [batches, B, T], for the random model's mean activations.
      splits: The task's pairs.
      seed: Of the random model and of the nonsense.

    Returns:
      {"random model" and "nonsense task": {nodes, outcome ("met" or "missed"), loss, why}}.
    """
    untrained = dataclasses.replace(model, params=random_model(model.config, sparsity, seed))
    means = reference_activations(untrained, corpus, pruner.config.ablation, pruner.final)
    # A seed each, so that no pair has its answers by the same lot in two splits.
    of_nonsense = Splits(*(nonsense(pairs, 3 * seed + place) for place, pairs in enumerate(splits)))
    everything = full_masks(model.config, final=pruner.final)
    return {
        "random model": _outcome(pruner.on(Subject(untrained, means)), splits, everything)[0],
        "nonsense task": _outcome(pruner, of_nonsense, everything)[0],
    }


def other_seeds(pruner: Pruner, circuit: Masks, splits: Splits, seeds: Iterable[int]) -> list[Report]:
    """The same pruning with other seeds: {seed, nodes, outcome, loss, why, jaccard with `circuit`}."""
    everything = {site: np.ones_like(mask) for site, mask in circuit.items()}
    rows = []
    for seed in seeds:
        row, masks = _outcome(pruner, splits, everything, seed)
        rows.append({"seed": seed, **row, "jaccard": float(overlaps(masks, circuit))})
    return rows


def _outcome(
    pruner: Pruner, splits: Splits, everything: Masks, seed: int | None = None
) -> tuple[Report, Masks]:
    """What pruning finds, and its masks: all nodes if it misses the target."""
    found = pruner.prune(splits, seed, allow_unlearned=True)
    loss, nodes, target = found.metrics["select/calibrated_loss"], size(found.masks), pruner.config.target
    if not found.met_target:
        why = f"the circuit found, of {nodes} nodes, has {loss:.3f} on select pairs, more than {target:.2f}"
        return {"nodes": size(everything), "outcome": "missed", "loss": loss, "why": why}, everything
    return {"nodes": nodes, "outcome": "met", "loss": loss, "why": "the target is met"}, found.masks

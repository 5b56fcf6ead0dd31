"""Controls: what the same pruning finds where there is nothing to find, and with other seeds (METHOD 7).

A control is pruned although its full model knows nothing of its task: masks can make circuits of noise, and
that they do not is what a control is to show.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
import optax

from circuits_jax.circuits.ablation import full_masks, reference_activations
from circuits_jax.circuits.baselines import overlaps
from circuits_jax.circuits.prune import Pruner
from circuits_jax.config import ModelConfig, SparsityConfig
from circuits_jax.model.transformer import Params, Transformer, init_params
from circuits_jax.sparsity.projection import keep_largest
from circuits_jax.sparsity.schedules import L0Schedule
from circuits_jax.tasks.task import Pairs

Masks = Mapping[str, np.ndarray]
Row = dict[str, Any]


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
    """The same prompts, each pair's two answers exchanged or not by lot: nothing to know."""
    exchanged = np.random.RandomState(seed).randint(0, 2, (len(pairs.answers), 1)) == 1
    answers = np.where(exchanged, pairs.answers[:, ::-1], pairs.answers)
    return dataclasses.replace(pairs, task=f"{pairs.task} (nonsense)", answers=answers)


def empty_controls(
    pruner: Pruner,
    model: Transformer,
    sparsity: SparsityConfig,
    corpus: np.ndarray,
    pairs: tuple[Pairs, Pairs],
    seed: int,
) -> dict[str, Row]:
    """The two controls in which there is nothing to find.

    Args:
      pruner: Of the model whose circuit is judged, with that circuit's settings.
      model: Its network.
      sparsity: What its weights were trained to.
      corpus: int [batches, B, T], for the random model's mean activations.
      pairs: Training and held-out pairs of the task.
      seed: Of the random model and of the nonsense.

    Returns:
      {"random model" and "nonsense task": {nodes, outcome ("met" or "missed"), loss, why}}.
    """
    params = random_model(model.config, sparsity, seed)
    means = reference_activations(model, params, corpus, pruner.config.ablation)
    train, heldout = pairs
    # Two seeds, so that no pair has its answers by the same lot in both splits.
    riddles = (nonsense(train, 2 * seed), nonsense(heldout, 2 * seed + 1))
    everything = full_masks(model.config)
    return {
        "random model": _outcome(pruner.on(params, means), pairs, everything)[0],
        "nonsense task": _outcome(pruner, riddles, everything)[0],
    }


def other_seeds(
    pruner: Pruner, circuit: Masks, pairs: tuple[Pairs, Pairs], seeds: Iterable[int]
) -> list[Row]:
    """The same pruning with other seeds: {seed, nodes, outcome, loss, why, jaccard with `circuit`}."""
    everything = {site: np.ones_like(mask) for site, mask in circuit.items()}
    rows = []
    for seed in seeds:
        row, masks = _outcome(pruner, pairs, everything, seed)
        rows.append({"seed": seed, **row, "jaccard": float(overlaps(masks, circuit))})
    return rows


def _outcome(
    pruner: Pruner, pairs: tuple[Pairs, Pairs], everything: Masks, seed: int | None = None
) -> tuple[Row, Masks]:
    """What pruning finds, and its masks: all nodes if it misses the target."""
    found = pruner.prune(*pairs, seed, whatever_it_knows=True)
    loss, nodes, target = found.metrics["heldout/calibrated_loss"], _size(found.masks), pruner.config.target
    if not found.met_target:
        why = f"the circuit found, of {nodes} nodes, has {loss:.3f} on held-out pairs, more than {target:.2f}"
        return {"nodes": _size(everything), "outcome": "missed", "loss": loss, "why": why}, everything
    return {"nodes": nodes, "outcome": "met", "loss": loss, "why": "the target is met"}, found.masks


def _size(masks: Masks) -> int:
    return int(sum(mask.sum() for mask in masks.values()))

"""Measures the sharded trainer on the accelerators at hand, and checks the projection on them."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from circuits_jax.config import Config, MeshConfig
from circuits_jax.sparsity.projection import keep_largest, project_mask
from circuits_jax.sparsity.schedules import L0Schedule
from circuits_jax.storage.tables import Row
from circuits_jax.training.layout import batch_shape, first_state, jit_functions, make_layout, place
from circuits_jax.training.mesh.meshes import make_mesh
from circuits_jax.training.plan import describe, peak_flops, plan
from circuits_jax.training.pretraining import pretraining

_SEED = 0
_SORTED, _KEPT = (1024, 4096), 16384  # a matrix, and how many of its entries are kept


def check_devices(config: Config, steps: int) -> Row:
    """One row of figures: tokens a second, MFU, shares of a step, and whether sharded projections agree.

    Args:
      config: Whose step is timed, on random tokens.
      steps: That are timed, after two that are not.
    """
    whole = step_seconds(config, steps)
    without_projection = step_seconds(dataclasses.replace(config, sparsity=dense(config)), steps)
    without_topk = step_seconds(dataclasses.replace(config, model=all_active(config)), steps)
    tokens = config.train.batch_size * config.model.n_ctx / whole
    devices = make_mesh(config.mesh, config.train.batch_size).size
    peak = peak_flops(jax.devices()[0])
    row: Row = {
        "device": jax.devices()[0].device_kind,
        "devices": devices,
        "step, ms": whole * 1e3,
        "tokens a second": tokens,
        "projection, share of a step": 1 - without_projection / whole,
        "AbsTopK, share of a step": 1 - without_topk / whole,
        "sharded projection equal": str(projections_agree(config)),
    }
    flops = pretraining(config).flops_per_token
    if peak is not None and flops is not None:
        row["MFU"] = tokens * flops / (peak * devices)
    return row


def described_plan(config: Config) -> str:
    """The plan of a run of this configuration on the devices at hand."""
    return describe(plan(make_layout(pretraining(config), config), config))


def dense(config: Config) -> Any:
    """The sparsity settings without a projection."""
    return dataclasses.replace(config.sparsity, target=1.0)


def all_active(config: Config) -> Any:
    """The model's settings without AbsTopK."""
    return dataclasses.replace(config.model, activation_fraction=None)


def step_seconds(config: Config, steps: int) -> float:
    """Median seconds of a training step in the middle of the anneal, where the projection is at work."""
    config = dataclasses.replace(
        config, sparsity=dataclasses.replace(config.sparsity, anneal_start=0.0, anneal_end=0.0)
    )
    program = pretraining(config)
    layout = make_layout(program, config)
    step = jit_functions(program, layout).step
    shape = batch_shape(config, layout).shape
    windows = np.random.default_rng(_SEED).integers(0, config.model.vocab_size, shape).astype(np.int32)
    frozen = place(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), program.frozen), layout.frozen)
    rows, state, seconds = jax.device_put(windows, layout.rows), first_state(program, layout), []
    for number in range(steps + 2):
        began = time.perf_counter()
        state, metrics = jax.block_until_ready(step(state, rows, frozen))
        if number >= 2:  # the first compiles, the second settles the memory
            seconds.append(time.perf_counter() - began)
    if not metrics["finite"]:
        print("warning: the parameters are no longer finite")
    return float(np.median(seconds))


def projections_agree(config: Config) -> bool:
    """Whether the projection of every tensor split over the devices keeps what that of the whole one keeps.

    On a single device the tensors are split over a mesh of one, and compared with numpy's sort.
    """
    model = config.model
    ways = math.gcd(
        jax.device_count(), config.train.batch_size, model.d_model, model.d_read, model.vocab_size
    )
    split = dataclasses.replace(config, mesh=MeshConfig(fsdp=ways))
    program = pretraining(split)
    layout = make_layout(program, split)
    params = first_state(program, layout).params
    project = projection(config)
    sharded = jax.jit(project, in_shardings=(layout.state.params,), out_shardings=layout.state.params)
    alone = jax.device_put(jax.device_get(params), jax.devices()[0])
    pairs = jax.device_get((sharded(params), jax.jit(project)(alone)))
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, *pairs))) and agrees_with_sort()


def projection(config: Config) -> Callable[[Any], Any]:
    """params -> params at the final budget."""
    sparsity = config.sparsity
    transform = keep_largest(
        L0Schedule(target=sparsity.target), sparsity.floor, sparsity.sparse_biases, sparsity.sparse_embeddings
    )

    def project(params: Any) -> Any:
        zeros = jax.tree.map(jnp.zeros_like, params)
        updates, _ = transform.update(zeros, transform.init(params), params)
        return optax.apply_updates(params, updates)

    return project


def agrees_with_sort() -> bool:
    """Whether the projection keeps the k entries that numpy's sort puts first, on this device."""
    w = np.random.default_rng(_SEED).normal(size=_SORTED).astype(np.float32)
    kept = np.asarray(jax.jit(lambda w: project_mask(w, _KEPT))(w))
    wanted = np.zeros(w.size, bool)
    wanted[np.argsort(-np.abs(w).ravel(), kind="stable")[:_KEPT]] = True
    return np.array_equal(kept.ravel(), wanted)

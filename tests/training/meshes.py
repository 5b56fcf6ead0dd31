"""Steps of one program on any mesh of the eight devices, to be compared."""

import dataclasses

import jax
import numpy as np

from circuits_jax.config import Config, MeshConfig, ModelConfig, OptimizerConfig, SparsityConfig, TrainConfig
from circuits_jax.model.placement import placing
from circuits_jax.training.layout import first_state, make_layout, place
from circuits_jax.training.pretraining import pretraining

MESHES = {
    "data": MeshConfig(data=8),
    "model": MeshConfig(data=1, model=8),
    "2x4": MeshConfig(data=2, model=4),
    "4x2": MeshConfig(data=4, model=2),
}


def config(d_model=64, steps=20, **optimizer):
    """A small run of one layer."""
    return Config(
        model=ModelConfig(n_layer=1, d_model=d_model, d_head=16, n_ctx=16, vocab_size=128),
        sparsity=SparsityConfig(target=1 / 8, anneal_start=0.0, anneal_end=0.5, floor=1),
        optimizer=OptimizerConfig(warmup=0.0, **optimizer),
        train=TrainConfig(steps=steps, batch_size=16, log_every=1),
    )


def batches(config, count):
    """Batches int32 [B, T] that have something to be learnt."""
    rng, size = np.random.default_rng(0), (config.train.batch_size, config.model.n_ctx + 1)
    return [
        (np.cumsum(rng.integers(1, 4, size=size), 1) % config.model.vocab_size).astype(np.int32)
        for _ in range(count)
    ]


def frozen_values(program):
    """Random values of what `program` does not train; nothing, for most."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), program.frozen)


def compiled(config, mesh):
    """(the layout, the compiled step) of `config` on `mesh`."""
    config = dataclasses.replace(config, mesh=mesh)
    program = pretraining(config)
    layout = make_layout(program, config)
    shardings = (layout.state, layout.rows, layout.frozen)
    return (
        program,
        layout,
        jax.jit(
            placing(program.step, layout.mesh, layout.kernels),
            in_shardings=shardings,
            out_shardings=(layout.state, layout.whole),
        ),
    )


def run(config, mesh, windows, state=None):
    """(losses, the last state on the host) of a step for each of `windows`, from `state` or the start."""
    program, layout, step = compiled(config, mesh)
    state = first_state(program, layout) if state is None else place(state, layout.state)
    frozen, losses = place(frozen_values(program), layout.frozen), []
    for rows in windows:
        state, metrics = step(state, jax.device_put(rows, layout.rows), frozen)
        losses.append(float(metrics["loss"]))
    return np.array(losses), jax.device_get(state)


def single(config, windows, state=None):
    """The same on one device, without any mesh."""
    program = pretraining(config)
    state = jax.jit(lambda: program.init(None))() if state is None else state
    step, frozen, losses = jax.jit(program.step), frozen_values(program), []
    for rows in windows:
        state, metrics = step(state, rows, frozen)
        losses.append(float(metrics["loss"]))
    return np.array(losses), jax.device_get(state)

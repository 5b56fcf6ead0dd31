"""Times one training step of bridges, for comparison with figures of others.

    python -m experiments.benchmarks.bridge_speed [--steps=12] [--parts=1]

The sparse model has 2 layers of d_model 256 and keeps 1 weight in 32, AbsTopK 1/4 at all ten locations, sinks
and bigram table; the dense one has d_model 128; batches of 8 windows of 128 tokens, vocabulary 2048, exact
KLs; optimizer and projection are part of the step.  Prints medians and minima, peak memory of the process,
and the compiler's own figures.
"""

import dataclasses
import resource
import time

import jax
import numpy as np
from absl import flags

from circuits_jax.bridges.training import bridging
from circuits_jax.commands import launching
from circuits_jax.config import TOPK_LOCATIONS, Config, MeshConfig, ModelConfig, SparsityConfig, TrainConfig
from circuits_jax.model.model import Model
from circuits_jax.model.transformer import init_params
from circuits_jax.training.layout import first_state, make_layout, place

SPARSE = ModelConfig(n_layer=2, d_model=256, n_ctx=128, vocab_size=2048, activation_locations=TOPK_LOCATIONS)
DENSE = dataclasses.replace(SPARSE, d_model=128, activation_fraction=None)


def define_flags() -> None:
    """The flags of this command."""
    flags.DEFINE_integer("steps", 12, "Steps that are timed.", lower_bound=1)
    flags.DEFINE_integer("parts", 1, "mesh.accumulate.", lower_bound=1)


def main() -> None:
    """The command."""
    config = Config(
        model=SPARSE,
        sparsity=SparsityConfig(target=1 / 32, anneal_start=0.0, anneal_end=0.0),
        train=TrainConfig(batch_size=8, steps=1000),
        mesh=MeshConfig(accumulate=flags.FLAGS.parts),
    )
    dense = Model(DENSE, jax.device_get(init_params(DENSE, jax.random.PRNGKey(1))))
    program = bridging(config, dense)
    layout = make_layout(program, config)
    state, frozen = first_state(program, layout), place(program.frozen, layout.frozen)
    rng = np.random.default_rng(0)
    windows = jax.device_put(rng.integers(0, 2048, (8, 129)).astype(np.int32), layout.rows)
    step = jax.jit(
        program.step,
        in_shardings=(layout.state, layout.rows, layout.frozen),
        out_shardings=(layout.state, layout.whole),
        donate_argnums=0,
    )
    start = time.perf_counter()
    step = step.lower(state, windows, frozen).compile()
    compiled = time.perf_counter() - start
    times = []
    for _ in range(flags.FLAGS.steps + 2):
        start = time.perf_counter()
        state, metrics = step(state, windows, frozen)
        jax.block_until_ready((state, metrics))
        times.append(time.perf_counter() - start)
    times = times[2:]  # the first ones warm up
    summary = {
        "devices": jax.device_count(),
        "compilation (s)": compiled,
        "step, median (s)": float(np.median(times)),
        "step, minimum (s)": min(times),
        "peak memory of the process (GB)": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "temporaries of a device (MB)": step.memory_analysis().temp_size_in_bytes / 1e6,
        "loss": float(metrics["loss"]),
    }
    for name, value in summary.items():
        print(f"{name}: {value:.4g}")


if __name__ == "__main__":
    define_flags()
    launching.start(main)

"""Times one training step of bridges, with the memory that it takes.

    python -m experiments.benchmarks.bridge_speed [--steps=12] [--parts=1]

The sparse model has 2 layers of d_model 256 and keeps 1 weight in 32, four for each unit at least, AbsTopK
1/4 at all ten locations, sinks and bigram table; the dense one has d_model 128; batches of 8 windows of 128
tokens, vocabulary 2048, exact KLs; optimizer and projection are part of the step.  Prints medians and minima,
peak memory of the process, and the compiler's own figures.  `pytorch_pairs` times the same step beside
another implementation's.
"""

import dataclasses
import resource
import time

import jax
import numpy as np
from absl import flags

from circuits_jax.bridges.training import bridging
from circuits_jax.commands import launching
from circuits_jax.config import TOPK_LOCATIONS
from circuits_jax.model.model import Model
from circuits_jax.model.transformer import init_params
from experiments.benchmarks.our_steps import Stepper, settings
from experiments.benchmarks.shapes import BRIDGED, DENSE_WIDTH


def define_flags() -> None:
    """The flags of this command."""
    flags.DEFINE_integer("steps", 12, "Steps that are timed.", lower_bound=1)
    flags.DEFINE_integer("parts", 1, "mesh.accumulate.", lower_bound=1)


def bridge_step(bigram: str = "learned", precision: str = "default", parts: int = 1) -> Stepper:
    """Training steps of bridges and sparse model; the dense model always has a table that was learned.

    Args:
      bigram: As `model.bigram` has it, of the sparse model.
      precision: As `mesh.precision` has it.
      parts: As `mesh.accumulate` has it.
    """
    config = settings(BRIDGED, bigram, precision, parts, activation_locations=TOPK_LOCATIONS)
    dense = dataclasses.replace(config.model, d_model=DENSE_WIDTH, bigram="learned", activation_fraction=None)
    params = jax.device_get(init_params(dense, jax.random.PRNGKey(1)))
    return Stepper(bridging(config, Model(dense, params)), config)


def main() -> None:
    """The command."""
    start = time.perf_counter()
    step = bridge_step(parts=flags.FLAGS.parts)
    prepared = time.perf_counter() - start
    times = []
    for _ in range(flags.FLAGS.steps + 2):
        start = time.perf_counter()
        metrics = step(1)
        times.append(time.perf_counter() - start)
    times = times[2:]  # the first ones warm up
    summary = {
        "devices": jax.device_count(),
        "preparation and compilation (s)": prepared,
        "step, median (s)": float(np.median(times)),
        "step, minimum (s)": min(times),
        "peak memory of the process (GB)": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "temporaries of a device (MB)": step.compiled.memory_analysis().temp_size_in_bytes / 1e6,
        "loss": float(metrics["loss"]),
    }
    for name, value in summary.items():
        print(f"{name}: {value:.4g}")


if __name__ == "__main__":
    define_flags()
    launching.start(main)

"""Seconds of one pruning step, with and without each thing that is to make it faster.

    python -m experiments.benchmarks.prune_speed --workdir=runs/speed --length=64

Random weights of config S by default (2 layers, d_model 256, 1024 neurons); 64 pairs, that is 128 sequences.
The ways take turns in one process, so that other load on the machine meets all of them alike; processor
seconds, of all threads, stand beside wall seconds.  `pytorch_pairs` times the step of the whole network
("AbsTopK in the cache") beside another implementation's.
"""

import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from circuits_jax.circuits.ablation.pairs import PairBatch, pair_difference
from circuits_jax.circuits.masks import full_masks
from circuits_jax.circuits.pruning.compaction import capacities, compact
from circuits_jax.circuits.pruning.fit import Batch, FitRun, Fitter, MaskLoss, start_fit
from circuits_jax.circuits.pruning.nodes import node_loss
from circuits_jax.circuits.pruning.runner import replicate
from circuits_jax.circuits.pruning.taus import Taus, init_taus
from circuits_jax.commands import launching, setting_flags
from circuits_jax.config import ModelConfig, PruneConfig
from circuits_jax.model.sites import node_sites
from circuits_jax.model.taps import mix
from circuits_jax.model.transformer import Transformer, init_params
from circuits_jax.tasks.metrics import loss_of_difference, task_loss
from experiments.benchmarks.shapes import PAIRS, PROMPT, random_pairs

STEPS = 4  # in one call
# What a cut leaves of all nodes after these shares of a run (of single_double_quote at d_model 128).
STAGES = {"cut at 0.15": 0.17, "cut at 0.3": 0.10, "cut at 0.6": 0.05}

Row = dict[str, str | float]


def define_flags() -> None:
    """The flags of this command."""
    launching.define_workdir()
    setting_flags.define_config()
    flags.DEFINE_integer("length", PROMPT, "Tokens of a prompt.", lower_bound=2)
    width = "Width of the residual stream; a multiple of 16."
    flags.DEFINE_integer("d_model", 256, width, lower_bound=16)
    flags.DEFINE_integer("repeats", 7, "Measured steps of each way.", lower_bound=1)


def main() -> None:
    """The command."""
    given, prune = flags.FLAGS, setting_flags.read_config().prune
    config = ModelConfig(d_model=given.d_model, n_ctx=max(128, given.length))
    ways = build_ways(config, prune, given.length)
    launching.report(measure(ways, given.repeats), launching.workdir() / "prune_speed.json")


def build_ways(config: ModelConfig, prune: PruneConfig, length: int) -> dict[str, Callable[[], object]]:
    """Functions that make one step, by name."""
    network, (fitter, shared, run) = Transformer(config), mask_step(config, prune, length)
    host, means, _ = jax.tree.map(np.asarray, shared)

    def plain(shared: tuple, own: tuple, kept: Taus, batch: PairBatch) -> jax.Array:
        del own
        return loss_of_difference(pair_difference(network, shared[0], batch, tap=mix(kept, shared[1])))

    def everywhere(shared: tuple, own: tuple, kept: Taus, batch: PairBatch) -> jax.Array:
        del own
        tokens = batch.tokens.reshape(-1, batch.tokens.shape[-1])
        logits, _ = network.apply(shared[0], tokens, tap=mix(kept, shared[1]))
        return task_loss(logits[jnp.arange(len(tokens)), jnp.repeat(batch.last, 2)], batch.answers)

    runs = {"AbsTopK in the cache": run}
    for name, share in STAGES.items():
        stays = _some(config, share)
        own = compact(config, host, means, stays, capacities(config, [stays]))
        runs[name] = run._replace(own=own)
    whole = {"logits at every position": everywhere, "as the network is": plain}
    slow = {name: Fitter(loss, prune, jax.devices()) for name, loss in whole.items()}
    return (
        _gradients(plain, jax.tree.map(jnp.asarray, (host, means)), full_masks(config), run.data)
        | {name: lambda one=one: one.fit(shared, [run], STEPS) for name, one in slow.items()}
        | {name: lambda one=one: fitter.fit(shared, [one], STEPS) for name, one in runs.items()}
    )


def mask_step(config: ModelConfig, prune: PruneConfig, length: int) -> tuple[Fitter, tuple, FitRun]:
    """(what takes a step on the masks of random weights, what it shares, a run before its first step).

    Args:
      config: The model's.
      prune: Settings of the run.
      length: Tokens of a prompt.
    """
    params = jax.tree.map(np.asarray, init_params(config, jax.random.key(0)))
    means = {site: np.zeros(width, np.float32) for site, width in node_sites(config).items()}
    tokens, answers = random_pairs(length)
    data = PairBatch(tokens, np.full(PAIRS, length - 1, np.int32), answers)
    taus = init_taus(config, prune, jax.random.PRNGKey(0))
    fitter = Fitter(functools.partial(node_loss, Transformer(config)), prune, jax.devices())
    shared = replicate((params, means, full_masks(config)), jax.devices())
    return fitter, shared, start_fit(prune, taus, jax.random.PRNGKey(1), data)


def measure(ways: dict[str, Callable[[], object]], repeats: int) -> list[Row]:
    """Least and median seconds of each way, after one call that compiles it."""
    rows: dict[str, Row] = {}
    for name, step in ways.items():
        began = time.perf_counter()
        step()
        rows[name] = {"way": name, "first call": time.perf_counter() - began}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, step in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            spent = time.perf_counter() - wall, time.process_time() - cpu
            seconds[name].append(tuple(x / STEPS for x in spent))
    for name, pairs in seconds.items():
        for at, kind in enumerate(("wall", "processor")):
            values = [pair[at] for pair in pairs]
            rows[name] |= {f"{kind} min": min(values), f"{kind} median": float(np.median(values))}
    return list(rows.values())


def _gradients(loss: MaskLoss, shared: tuple, kept: Taus, batch: Batch) -> dict[str, Callable[[], object]]:
    """What a step spends on its gradient alone, on one device, and what the weights' gradient would add."""

    def way(wanted: tuple[int, ...]) -> Callable[[], object]:
        gradient = jax.jit(jax.grad(lambda kept, shared: loss(shared, (), kept, batch), wanted))
        return lambda: [jax.block_until_ready(gradient(kept, shared)) for _ in range(STEPS)]

    return {
        "one device, gradient of masks and weights": way((0, 1)),
        "one device, gradient of masks": way((0,)),
    }


def _some(config: ModelConfig, share: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {site: (rng.random(len(x)) < share).astype(np.float32) for site, x in full_masks(config).items()}


if __name__ == "__main__":
    define_flags()
    launching.start(main)

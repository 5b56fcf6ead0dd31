"""Times steps in turn with a PyTorch reimplementation's.

    python -m experiments.benchmarks.pytorch_pairs --pytorch=DIR [--works=train,forward,bridge,prune]
        [--sizes=quickstart,S,M] [--in_a_row=1] [--cpu_devices=2]

DIR holds `jacobcd52/sparse_pretrain_public` as it was fetched; PyTorch has to be installed, and for pruning
tqdm and transformers, which its modules import.  PyTorch runs in a process of its own, a new one for each
table, with as many threads as it may use cores; ours runs here, on --cpu_devices devices.  A turn is
--in_a_row steps: with 1, each step finds the caches full of the other side's arrays, as no training does.
Prints medians of a step's time, medians of the ratios of turns that stood side by side, and for training and
forward passes how far ours ends from the rate at which the machine multiplies matrices of float32.

Both sides have random weights, the same random tokens and the same network: AbsTopK 1/4 at eight locations,
sinks, a bigram table of 2048 x 2048.  They compute in float32, but for "bfloat16" below.

train: a training step: forward and backward pass, the gradient scaled to RMS 1, AdamW, the projection to 1
weight in 32, four kept for each unit at least.
- Ours is timed with the table learned, as PyTorch's is; with the table of counts, which is not trained, so
  that there is less to do; and with counts and products of bfloat16 (`mesh.precision`).
- Theirs decays every parameter, ours matrices alone.  Theirs keeps the floor for each row of every matrix,
  ours for neurons and attention channels.  Ours also projects biases, and looks whether all is finite.

forward: the logits of one batch; ours on the first device alone.  Neither the table's kind nor
`mesh.precision` changes this pass.

bridge: a training step of bridges and a sparse model of 2 layers of width 256, with AbsTopK at the stream's
two locations too, beside a dense model of width 128, on 8 windows of 128 tokens, whatever --sizes says:
cross-entropy, exact KLs of the sparse model and of ten hybrids, reconstruction both ways, and after the
backward pass what a training step does.  Ours is timed in the same three ways.
- Theirs takes the softmax of the dense model's logits again for each hybrid, and has AbsTopK on the embedding
  in the pass itself, which ours takes for the encoder's target alone.  Its hybrids leave out AbsTopK on the
  stream, which ours do not.  It sums a hybrid's KL over a window's tokens, ours averages.
- Its own command does this in bfloat16 by default and fetches every loss at every step; here neither is done.

prune: a step on the masks of all nodes, 64 pairs of prompts of 24 tokens, layers and width of --sizes:
forward pass, backward pass to the masks alone, cross-entropy of right against wrong token, a price for each
node, the clip of the gradient's RMS, AdamW, the clamp.  Removed nodes are held at means, here zeros.
- Theirs runs only the first prompt of a pair; it is given 128 pairs, so that both sides run 128 prompts.
- Theirs takes logits at every position and ours at the last alone, which is part of how ours is faster.
- Theirs computes and fetches accuracy and other figures at every step; ours fetches two figures and the masks
  once a turn, and draws its pairs anew at every step, where theirs is given the same batch.
- Ours cuts no nodes out of the network on the way (`prune.cuts`).
"""

import math
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from circuits_jax.commands import launching
from circuits_jax.config import ModelConfig, PruneConfig
from circuits_jax.storage.cores import usable_cores
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.tables import Row, show_table
from circuits_jax.training.pretraining import flops_per_token
from experiments.benchmarks.bridge_speed import bridge_step
from experiments.benchmarks.our_steps import Work, forward_pass, settings, train_step
from experiments.benchmarks.peer_process import PeerProcess
from experiments.benchmarks.prune_speed import mask_step
from experiments.benchmarks.shapes import PROMPT, SIZES, VOCABULARY

WORKS = {
    "train": "training step",
    "forward": "forward pass",
    "bridge": "bridge step",
    "prune": "pruning step",
}
PAUSE = 0.3  # seconds, in which the threads of what ran before stop waiting busily for more
# Ways of ours to train: model.bigram and mesh.precision.
WAYS = {
    "learned": ("learned", "default"),
    "counts": ("counts", "default"),
    "bfloat16": ("counts", "bfloat16"),
}


def define_flags() -> None:
    """The flags of this command."""
    flags.DEFINE_string("pytorch", None, "Folder of the PyTorch reimplementation.", required=True)
    flags.DEFINE_list("works", list(WORKS), f"What is timed, of {', '.join(WORKS)}.")
    flags.DEFINE_list("sizes", list(SIZES), f"Sizes, of {', '.join(SIZES)}; bridges have one of their own.")
    flags.DEFINE_integer("turns", 15, "Turns of each that are timed.", lower_bound=1)
    flags.DEFINE_integer("in_a_row", 1, "Steps, or forward passes, of a turn.", lower_bound=1)


def contestants(peer: PeerProcess, work: str, size: str) -> dict[str, Work]:
    """{"PyTorch" first, then each way of ours: what does the work}."""
    if work == "train":
        ours = {way: train_step(size, *settings) for way, settings in WAYS.items()}
        return {"PyTorch": peer.train_step(size), **ours}
    if work == "forward":
        return {"PyTorch": peer.forward_pass(size), "ours": forward_pass(size)}
    if work == "bridge":
        return {"PyTorch": peer.bridge_step()} | {way: bridge_step(*each) for way, each in WAYS.items()}
    if work == "prune":
        return {"PyTorch": peer.mask_step(size), "ours": fit_masks(size)}
    raise ValueError(f"unknown work {work!r}; choose train, forward, bridge or prune")


def fit_masks(size: str) -> Work:
    """Pruning steps of ours, on masks that go on from turn to turn."""
    layers, width, length, _ = SIZES[size]
    config = ModelConfig(n_layer=layers, d_model=width, n_ctx=length, vocab_size=VOCABULARY)
    fitter, shared, run = mask_step(config, PruneConfig(), PROMPT)

    def work(steps: int) -> None:
        nonlocal run
        (run,) = fitter.fit(shared, [run], steps)

    return work


def in_turn(works: list[Work], turns: int, in_a_row: int) -> np.ndarray:
    """Seconds of a step of each work, [works, turns], called in turn; the first two turns are not timed."""
    found = np.zeros((len(works), turns + 2))
    for number in range(turns + 2):
        for place, work in enumerate(works):
            time.sleep(PAUSE)
            began = time.perf_counter()
            work(in_a_row)
            found[place, number] = (time.perf_counter() - began) / in_a_row
    return found[:, 2:]


def product_rate(repeats: int = 30) -> float:
    """Floating-point operations a second of a product of 2048 x 1024 by 1024 x 1024, at its fastest."""
    x, w = jnp.ones((2048, 1024)), jnp.ones((1024, 1024))
    product, seconds = jax.jit(jnp.matmul), []
    for _ in range(repeats):
        began = time.perf_counter()
        product(x, w).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2 * x.size * w.shape[1] / min(seconds)


def operations(work: str, size: str) -> float:
    """Of the products of one step or forward pass; NaN for works whose products are not counted."""
    if work not in ("train", "forward"):
        return math.nan
    config = settings(SIZES[size], "counts", "default")
    tokens = config.train.batch_size * config.model.n_ctx
    return flops_per_token(config.model) * tokens / (1 if work == "train" else 3)


def compare(works: dict[str, Work], turns: int, in_a_row: int, floor: float) -> list[Row]:
    """A row for each way of ours, beside the first of `works`; `floor`: seconds of the products alone."""
    seconds = in_turn(list(works.values()), turns, in_a_row)
    medians, ratios = 1e3 * np.median(seconds, axis=1), np.median(seconds / seconds[0], axis=1)
    figures = zip(list(works)[1:], medians[1:], ratios[1:], strict=True)
    return [
        {
            "way": way,
            "PyTorch, ms": round(float(medians[0]), 1),
            "ours, ms": round(float(median), 1),
            "ratio": round(float(ratio), 3),
            **({} if math.isnan(floor) else {"of product rate": round(1e3 * floor / float(median), 2)}),
        }
        for way, median, ratio in figures
    ]


def main() -> None:
    """The command."""
    given = flags.FLAGS
    for flag, chosen, known in (("works", given.works, WORKS), ("sizes", given.sizes, SIZES)):
        if unknown := [name for name in chosen if name not in known]:
            raise ConfigError(f"--{flag} has {unknown[0]!r}; choose of {', '.join(known)}")
    rate = product_rate()
    print(f"products of float32: {rate / 1e9:.0f} GFLOP/s with {usable_cores()} cores")
    for work in given.works:
        for size in given.sizes if work != "bridge" else ["256 and 128"]:
            of = {"work": WORKS[work], "size": size, "devices": jax.device_count()}
            floor = operations(work, size) / rate
            with PeerProcess(given.pytorch) as peer:
                rows = compare(contestants(peer, work, size), given.turns, given.in_a_row, floor)
            print(show_table([of | row for row in rows]), flush=True)


if __name__ == "__main__":
    define_flags()
    launching.start(main)

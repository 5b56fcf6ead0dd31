"""Times training steps and forward passes in turn with a PyTorch reimplementation's.

    python -m experiments.benchmarks.pytorch_pairs --pytorch=DIR [--sizes=quickstart,S,M] [--in_a_row=1]

DIR holds `jacobcd52/sparse_pretrain_public` as it was fetched; PyTorch has to be installed.  Both sides train
the same network: AbsTopK 1/4 at eight locations, sinks, a bigram table, 1 weight in 32 kept, four for each
unit at least.  PyTorch has as many threads as this process may use cores.  Ours are of --cpu_devices devices,
with the table learned (what PyTorch trains), with counts, and with counts and products of bfloat16.  A turn
is --in_a_row steps: with 1, each step finds the caches full of the other side's arrays, as no training does.
Prints medians of a step's time, and medians of the ratios of turns that stood side by side.
"""

import importlib
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import flags

from circuits_jax.commands import launching
from circuits_jax.config import Config, MeshConfig, ModelConfig, SparsityConfig, TrainConfig
from circuits_jax.model.transformer import Transformer
from circuits_jax.storage.cores import usable_cores
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.paths import as_path
from circuits_jax.storage.tables import Row, show_table
from circuits_jax.training.layout import first_state, jit_functions, make_layout, place
from circuits_jax.training.pretraining import pretraining

# Layers, d_model, context, batch.
SIZES = {"quickstart": (2, 128, 128, 8), "S": (2, 256, 128, 16), "M": (4, 512, 256, 8)}
VOCABULARY, KEPT, FLOOR = 2048, 1 / 32, 4
PAUSE = 0.3  # seconds, in which the threads of what ran before stop waiting busily for more
PEER = "peer"  # the package that its modules import each other by, without what its own __init__ asks for


def define_flags() -> None:
    """The flags of this command."""
    flags.DEFINE_string("pytorch", None, "Folder of the PyTorch reimplementation.", required=True)
    flags.DEFINE_list("sizes", list(SIZES), f"Sizes, of {', '.join(SIZES)}.")
    flags.DEFINE_integer("turns", 15, "Turns of each that are timed.", lower_bound=1)
    flags.DEFINE_integer("in_a_row", 1, "Steps, or forward passes, of a turn.", lower_bound=1)


def ours(size: str, bigram: str, precision: str = "default") -> tuple[Callable[[], Any], Callable[[], Any]]:
    """(a training step, a forward pass) of ours; each call waits for its result."""
    layers, width, length, batch = SIZES[size]
    config = Config(
        model=ModelConfig(n_layer=layers, d_model=width, n_ctx=length, vocab_size=VOCABULARY, bigram=bigram),
        sparsity=SparsityConfig(target=KEPT, floor=FLOOR, anneal_start=0.0, anneal_end=0.0),
        train=TrainConfig(batch_size=batch, steps=1000, bigram_prior=300.0),
        mesh=MeshConfig(precision=precision),
    )
    program = pretraining(config)
    layout = make_layout(program, config)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), program.frozen)
    frozen, state = place(zeros, layout.frozen), first_state(program, layout)
    step = jit_functions(program, layout).step
    rows = jax.device_put(tokens(batch, length + 1).astype(np.int32), layout.rows)
    network = Transformer(config.model)
    params = {**jax.device_get(state.params), **zeros}
    forward = jax.jit(lambda params, rows: network.apply(params, rows)[0])
    params, short = jax.device_put(params), jax.device_put(tokens(batch, length).astype(np.int32))

    def train() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(step(state, rows, frozen))

    return train, lambda: forward(params, short).block_until_ready()


def theirs(folder: str, size: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """(a training step, a forward pass) of the PyTorch reimplementation.

    Raises:
      ConfigError: if PyTorch or the reimplementation is not there.
    """
    source = as_path(folder) / "src"
    if not (source / "model.py").exists():
        raise ConfigError(f"--pytorch is {folder!r}, which has no src/model.py; give a copy of it")
    package = types.ModuleType(PEER)
    package.__path__ = [str(source)]
    sys.modules[PEER] = package
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise ConfigError("PyTorch is not installed here; pip install torch") from error
    configs, models, sparsity = (
        importlib.import_module(f"{PEER}.{name}") for name in ("config", "model", "sparsity")
    )
    torch.set_num_threads(usable_cores())
    torch.manual_seed(0)
    layers, width, length, batch = SIZES[size]
    network = models.SparseGPT(
        configs.ModelConfig(n_layer=layers, d_model=width, n_ctx=length, vocab_size=VOCABULARY),
        configs.SparsityConfig(target_l0_fraction=KEPT, min_weights_per_neuron=FLOOR),
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, betas=(0.9, 0.95), eps=0.1, weight_decay=0.1)
    sparsifier = sparsity.WeightSparsifier(network, KEPT, 0.0, 0.0, FLOOR, 1000)
    rows = torch.from_numpy(tokens(batch, length + 1))

    def train() -> None:
        logits = network(rows[:, :-1])[0]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        sparsity.normalize_grad_rms_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        sparsifier.step()

    def forward() -> None:
        with torch.no_grad():
            network(rows[:, :-1])

    return train, forward


def tokens(rows: int, length: int) -> np.ndarray:
    """Random tokens, int64 [rows, length]."""
    return np.random.default_rng(0).integers(0, VOCABULARY, (rows, length))


def in_turn(works: list[Callable[[], Any]], turns: int, in_a_row: int) -> np.ndarray:
    """Seconds of each work, [works, turns], called in turn; the first two turns are not timed."""
    found = np.zeros((len(works), turns + 2))
    for number in range(turns + 2):
        for place_, work in enumerate(works):
            time.sleep(PAUSE)
            began = time.perf_counter()
            for _ in range(in_a_row):
                work()
            found[place_, number] = (time.perf_counter() - began) / in_a_row
    return found[:, 2:]


def main() -> None:
    """The command."""
    given = flags.FLAGS
    if unknown := [size for size in given.sizes if size not in SIZES]:
        raise ConfigError(f"--sizes has {unknown[0]!r}; choose of {', '.join(SIZES)}")
    for size in given.sizes:
        pairs = [theirs(given.pytorch, size)]
        pairs += [ours(size, "learned"), ours(size, "counts"), ours(size, "counts", "bfloat16")]
        rows: list[Row] = []
        for number, work in enumerate(("training step", "forward pass")):
            seconds = in_turn([pair[number] for pair in pairs], given.turns, given.in_a_row)
            medians, ratios = np.median(seconds, axis=1), np.median(seconds / seconds[0], axis=1)
            row: Row = {"size": size, "work": work, "devices": jax.device_count()}
            for name, each, ratio in zip(
                ("PyTorch", "learned", "counts", "bfloat16"), medians, ratios, strict=True
            ):
                row[f"{name}, ms"] = round(1e3 * float(each), 1)
                if name != "PyTorch":
                    row[f"{name}, ratio"] = round(float(ratio), 3)
            rows.append(row)
        print(show_table(rows), flush=True)


if __name__ == "__main__":
    define_flags()
    launching.start(main)

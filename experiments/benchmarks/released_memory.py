"""Peak memory of loading, inspecting and pruning models of the published shapes, their weights made up.

    python -m experiments.benchmarks.released_memory --shape=csp_yolo2

Each stage runs in a process of its own; what is told is that process's largest resident size.  One step of
pruning is taken with a whole batch, and the target is one that anything meets: memory does not depend on how
long it takes.
"""

import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from absl import app, flags

from circuits_jax import released
from circuits_jax.circuits.ablation.means import Subject, reference_activations
from circuits_jax.circuits.pruning.assembly import make_circuit
from circuits_jax.circuits.pruning.jobs import Splits
from circuits_jax.circuits.pruning.nodes import Pruner
from circuits_jax.config import ModelConfig, PruneConfig
from circuits_jax.configs import csp_yolo1, csp_yolo2
from circuits_jax.data.tokenizers.bpe import train_sentencepiece
from circuits_jax.model.parameters import build_tree, parameters
from circuits_jax.runs.inspection import inspect_model
from circuits_jax.runs.run import Run
from circuits_jax.tasks.task import Pairs

SHAPES = {
    "csp_yolo1": dataclasses.replace(csp_yolo1.CONFIG.model, dtype="float32"),
    "csp_yolo2": dataclasses.replace(csp_yolo2.CONFIG.model, dtype="float32"),
    "small": ModelConfig(n_layer=1, d_model=32, d_head=8, n_ctx=64, vocab_size=64, position="add"),
}
STAGES = ("load", "import", "inspect", "prune")
_SHAPE = flags.DEFINE_enum("shape", "csp_yolo1", list(SHAPES), "Which of the published shapes.")
_STAGE = flags.DEFINE_enum("stage", None, STAGES, "One stage, in this process, of the model in --folder.")
_FOLDER = flags.DEFINE_string("folder", None, "Where the made-up model lies; by default a temporary folder.")


def make_model(config: ModelConfig, folder: Path) -> Path:
    """A checkpoint in the released layout, of which one weight in fifty is not zero."""
    rng = np.random.default_rng(0)

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        values = np.zeros(shape, np.float32)
        flat, count = values.reshape(-1), max(1, values.size // 50)
        flat[rng.integers(0, flat.size, count)] = rng.normal(0, 0.3, count)
        return values

    code = ["def f(x):\n    return x + 1\n", "for i in range(10):\n    y = [i, 'a']\n"] * 50
    tokenizer = train_sentencepiece(code, 320, ()) if config.vocab_size > 320 else None
    params = build_tree((t.name, draw(t.shape)) for t in parameters(config))
    return released.export(params, config, folder, tokenizer=tokenizer)


def random_pairs(config: ModelConfig, count: int, length: int) -> Pairs:
    """Pairs of random prompts, which differ in their third token."""
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, config.vocab_size, (count, 1, length)).astype(np.int32).repeat(2, axis=1)
    tokens[:, 0, 2], tokens[:, 1, 2] = 3, 4
    last, answers = np.full(count, length - 1, np.int32), np.tile(np.int32([5, 6]), (count, 1))
    return Pairs("made_up", "train", tokens, last, answers, [("a", "b")] * count, 1.0, [("c", "d")] * count)


def run_stage(stage: str, folder: Path, shape: str) -> None:
    """One stage; prints its peak as JSON."""
    began, config = time.perf_counter(), SHAPES[shape]
    if stage == "import":
        released.as_workdir(folder, folder / "workdir")
    else:
        model = released.load(folder)
    if stage == "inspect":
        inspect_model(Run(model), 8)
    if stage == "prune":
        windows = np.random.default_rng(2).integers(0, config.vocab_size, (1, 2, config.n_ctx), np.int32)
        means = reference_activations(model, windows, "mean", final=True)
        subject = Subject(model, means)
        prune = PruneConfig(
            steps=1, target=9.0, edge_steps=0, importance_pairs=8, importance_nodes=2, train_pairs=64,
            select_pairs=32, test_pairs=32, final_resid=True,
        )  # fmt: skip
        splits = Splits(*(random_pairs(config, count, 24) for count in (64, 32, 32)))
        pruned = Pruner(subject, prune, jax.devices()[:1]).prune(splits, allow_unlearned=True)
        circuit = make_circuit(pruned, subject, prune, splits)
        assert dataclasses.is_dataclass(circuit) and "final_resid" in circuit.masks()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"stage": stage, "peak GiB": round(peak, 2), "seconds": time.perf_counter() - began}))


def main(argv: list[str]) -> None:
    """All stages, one after another."""
    del argv
    if _STAGE.value:
        run_stage(_STAGE.value, Path(_FOLDER.value), _SHAPE.value)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = make_model(SHAPES[_SHAPE.value], Path(_FOLDER.value or temporary) / _SHAPE.value)
        size = (folder / "final_model.pt").stat().st_size / 2**30
        print(f"{_SHAPE.value}: {size:.2f} GiB of weights")
        for stage in STAGES:
            if stage == "import" and not (folder / "tokenizer.model").exists():
                continue  # there is no tokenizer to import with the weights
            command = [sys.executable, "-m", __spec__.name, f"--shape={_SHAPE.value}", f"--stage={stage}"]
            subprocess.run([*command, f"--folder={folder}"], check=True)


if __name__ == "__main__":
    app.run(main)

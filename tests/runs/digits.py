"""A run with one circuit that was never pruned, of a model of random weights and a task of its own."""

import dataclasses
import json

import numpy as np

from circuits_jax.config import AuditConfig, Config, ModelConfig, PruneConfig, ReadingsConfig
from circuits_jax.data.tokenizers.bpe import train_sentencepiece
from circuits_jax.model.model import Model
from circuits_jax.runs.run import Run
from tests.experiments.circuits import every_third_node
from tests.viewer.synthetic import sparse_params

TASK = "digits"
READINGS = ReadingsConfig(pairs=16, choose_pairs=8, draws=3, effect=0.0)


def digit_pairs():
    """Which digit was assigned; 40 pairs of each split."""
    for number in range(120):
        rest = f"y = {number // 100}, {number // 10 % 10}, {number % 10}"
        a, b = (f"x = {digit}\n{rest}\nx == " for digit in "12")
        split = ("train", "select", "test")[number % 3]
        yield {"a": a, "b": b, "answer_a": "1\n", "answer_b": "2\n", "split": split}


def make_model(folder):
    """(the model, the file of the task, in `folder`)."""
    path = folder / f"{TASK}.jsonl"
    path.write_text("\n".join(map(json.dumps, digit_pairs())))
    tokenizer = train_sentencepiece([row["a"] + row["answer_b"] for row in digit_pairs()] * 4, 276, ())
    config = ModelConfig(
        n_layer=1, d_model=16, d_head=8, d_mlp=16, n_ctx=48, vocab_size=276, activation_fraction=None
    )
    return Model(config, sparse_params(config, keep=1 / 4), tokenizer, "made"), path


def make_run(model, path, folder):
    """A run in `folder`, of what `make_model` gave, whose circuit has few edges."""
    prune = PruneConfig(tasks=(str(path),), train_pairs=8, select_pairs=8, test_pairs=8)
    config = dataclasses.replace(
        Config(), model=model.config, readings=READINGS, audit=AuditConfig(pairs=16, draws=2)
    )
    run = Run(model, folder, config)
    circuit = every_third_node(run, TASK, prune)
    quiet = ("0.attn.q", "0.attn.k")  # which do little in a network of random weights
    edges = tuple(edge for edge in circuit.edges if circuit.nodes[edge.target].site not in quiet)
    means = {"0.attn.y": np.zeros(model.config.d_attn, np.float32), **circuit.means}
    dataclasses.replace(circuit, means=means, edges=edges).save(folder / "circuits" / TASK)
    return run

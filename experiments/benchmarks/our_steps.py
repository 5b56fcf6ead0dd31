"""Training steps and forward passes of ours, on random weights and tokens, for benchmarks to time."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from circuits_jax.config import Config, MeshConfig, ModelConfig, SparsityConfig, TrainConfig
from circuits_jax.model.transformer import Transformer, init_params
from circuits_jax.training.layout import batch_shape, first_state, jit_functions, make_layout, place
from circuits_jax.training.pretraining import pretraining
from circuits_jax.training.program import Metrics, Program
from experiments.benchmarks.shapes import FLOOR, KEPT, SIZES, VOCABULARY, random_tokens

Work = Callable[[int], Any]
"""Does so many steps, or forward passes, one after another, and waits for the last one's result."""


class Stepper:
    """A program's training step, taken on one batch of random tokens again and again, on all devices.

    Parameters that are not trained, and that the program has no values of, are zeros.

    Args:
      program: What is trained.
      config: Its whole configuration.

    Attributes:
      compiled: The step, compiled.
    """

    def __init__(self, program: Program, config: Config):
        layout = make_layout(program, config)
        self._frozen = place(jax.tree.map(_zeros, program.frozen), layout.frozen)
        self._rows = jax.device_put(random_tokens(*batch_shape(config, layout).shape), layout.rows)
        self._state = first_state(program, layout)
        step = jit_functions(program, layout).step
        self.compiled = step.lower(self._state, self._rows, self._frozen).compile()

    def __call__(self, steps: int) -> Metrics:
        """The metrics of the last of `steps` steps, at least 1, each of which is waited for."""
        for _ in range(steps):
            result = self.compiled(self._state, self._rows, self._frozen)
            self._state, metrics = jax.block_until_ready(result)
        return metrics


def train_step(size: str, bigram: str, precision: str) -> Work:
    """Training steps.

    Args:
      size: Of SIZES.
      bigram: As `model.bigram` has it.
      precision: As `mesh.precision` has it.
    """
    config = settings(SIZES[size], bigram, precision)
    return Stepper(pretraining(config), config)


def forward_pass(size: str) -> Work:
    """Forward passes on the first device."""
    config = settings(SIZES[size], "learned", "default")
    network, params = Transformer(config.model), init_params(config.model, jax.random.key(0))
    tokens = jax.device_put(random_tokens(config.train.batch_size, config.model.n_ctx))
    forward = jax.jit(lambda params, tokens: network.apply(params, tokens)[0])

    def work(passes: int) -> None:
        for _ in range(passes):
            forward(params, tokens).block_until_ready()

    return work


def settings(
    shape: tuple[int, int, int, int], bigram: str, precision: str, parts: int = 1, **model: Any
) -> Config:
    """The configuration of steps at the final sparsity.

    Args:
      shape: As SIZES has it.
      bigram: As `model.bigram` has it.
      precision: As `mesh.precision` has it.
      parts: As `mesh.accumulate` has it.
      model: Further settings of the model.
    """
    layers, width, length, batch = shape
    network = ModelConfig(
        n_layer=layers, d_model=width, n_ctx=length, vocab_size=VOCABULARY, bigram=bigram, **model
    )
    return Config(
        model=network,
        sparsity=SparsityConfig(target=KEPT, floor=FLOOR, anneal_start=0.0, anneal_end=0.0),
        train=TrainConfig(batch_size=batch, steps=1000, bigram_prior=300.0),
        mesh=MeshConfig(precision=precision, accumulate=parts),
    )


def _zeros(leaf: Any) -> Any:
    return np.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf

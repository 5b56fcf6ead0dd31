"""What a Trainer trains: a handful of functions.  Pretraining is one such program, bridges are another."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from circuits_jax.model.transformer import Params
from circuits_jax.training.mesh.partition import PartitionRule
from circuits_jax.training.state import TrainState

Metrics = dict[str, jax.Array]


def _nothing() -> Any:
    return None


@dataclasses.dataclass(frozen=True)
class Program:
    """Everything a training loop needs to know of what it trains.

    The Trainer does the rest: it lays states out over the mesh, compiles, reads batches, logs, evaluates,
    writes checkpoints and goes on from them.  A state may hold any parameters, as long as its names have
    partition rules.

    Attributes:
      init: (inputs) -> the first TrainState.  Traced and compiled with sharded outputs, so that no device
        ever holds a whole state.
      step: (state, windows, frozen) -> (state, scalar metrics), among them "loss" and the bool "finite",
        which says whether what the step made is fit to be saved.  Traced; `make_train_step` makes one.
      evaluate: (params, windows, frozen) -> any tree of arrays, of one validation batch.  Traced.  Sum
        nothing over rows here: on the CPU, devices that wait for each other may wait for ever
        (docs/performance.md, "CPU devices").
      summarize: What `evaluate` gave for each validation batch, as numpy arrays -> figures, among them
        "validation_loss", by which the best checkpoints are chosen.
      measure: params -> scalars for the log.  Traced; called when a row is written.
      rules: Partition rules of the parameters and of `frozen`, without those of `mesh.rules`, which come
        before them.
      inputs: () -> what `init` starts from, such as a table or parameters of another run: a tree of host
        arrays or None.  Called for a fresh start only.
      frozen: Host arrays that steps read and do not train, such as a dense model to be bridged to, by names
        that no parameter has.  They are no part of checkpoints.  ShapeDtypeStructs do for a program that is
        laid out and not run.
      flops_per_token: Floating-point operations that one training step does for each token, for MFU; None if
        it is not known.
      snapshot: (step, params) -> nothing; keeps them for good.  Called on every process after the steps of
        `train.snapshots`, before a checkpoint of the same step; None where nothing is to be kept.
    """

    init: Callable[[Any], TrainState]
    step: Callable[[TrainState, jax.Array, Any], tuple[TrainState, Metrics]]
    evaluate: Callable[[Params, jax.Array, Any], Any]
    summarize: Callable[[Sequence[Any]], dict[str, float]]
    measure: Callable[[Params], Metrics]
    rules: tuple[PartitionRule, ...]
    inputs: Callable[[], Any] = _nothing
    frozen: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    flops_per_token: float | None = None
    snapshot: Callable[[int, Params], None] | None = None

    def shapes(self) -> TrainState:
        """The first state as a tree of ShapeDtypeStructs; nothing is computed."""
        return jax.eval_shape(lambda: self.init(None))


def stack_mean(values: Sequence[np.ndarray]) -> float:
    """The mean over all entries of all arrays, each array weighing the same."""
    return float(np.mean([np.mean(value) for value in values]))
